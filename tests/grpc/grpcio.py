"""gRPC client and server of the oracle, by grpcio: `grpcio.py serve` or `grpcio.py call`. See src/grpc/mod.rs for what is said."""
import asyncio
import sys

import grpc

CODES = {code.value[0]: code for code in grpc.StatusCode}
METADATA = [("grpc.max_metadata_size", 131072), ("grpc.absolute_max_metadata_size", 131072)]
PINGS = [("grpc.keepalive_time_ms", 10000), ("grpc.keepalive_permit_without_calls", 1)]
ALLOWED = [("grpc.http2.max_ping_strikes", 0), ("grpc.keepalive_permit_without_calls", 1)]


async def answer(requests, context):
    mode, status, count, size = dict(context.invocation_metadata())["x-answer"].split()
    payload = b"a" * int(size)
    if mode in ("after", "echo"):
        async for _ in requests:
            if mode == "echo":
                yield payload
    for _ in range(int(count)):
        yield payload
    if mode == "hang":
        await asyncio.Event().wait()
    if int(status):
        await context.abort(CODES[int(status)], "as asked")


class Calls(grpc.GenericRpcHandler):
    def service(self, _):
        return grpc.stream_stream_rpc_method_handler(answer)


async def serve():
    server = grpc.aio.server(options=METADATA + ALLOWED)
    server.add_generic_rpc_handlers((Calls(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.stop(0)


def begin(channel, call):
    path = f"/oracle.Calls/{call['number']}"
    payload = b"q" * call["size"]

    async def messages():
        for _ in range(call["messages"]):
            yield payload

    if call["shape"] == "unary":
        return channel.unary_unary(path)(payload, metadata=call["headers"])
    if call["shape"] == "client":
        return channel.stream_unary(path)(messages(), metadata=call["headers"])
    if call["shape"] == "server":
        return channel.unary_stream(path)(payload, metadata=call["headers"])
    return channel.stream_stream(path)(messages(), metadata=call["headers"])


async def one(channel, call, ping):
    rpc = begin(channel, call)
    try:
        if call["ending"] == "silent":
            await rpc.wait_for_connection()
            await one(channel, ping, None)
            rpc.cancel()
        elif call["shape"] in ("unary", "client"):
            await rpc
        else:
            async for _ in rpc:
                if call["ending"] == "first":
                    rpc.cancel()
                    break
    except (grpc.aio.AioRpcError, asyncio.CancelledError):
        pass
    code, details = (await rpc.code()).value[0], await rpc.details()
    # That is what grpcio itself says of a call that was refused while it was still sending.
    if code != call["expected"] and details != "Internal error from Core":
        print(call["number"], "ended with", code, details, flush=True)


def header(text):
    name, value = text.split("=", 1)
    return (name, value.encode() if name.endswith("-bin") else value)


def read(line):
    number, port, shape, messages, size, ending, expected, *headers = line.split("\t")
    return {
        "number": int(number), "port": int(port), "shape": shape, "messages": int(messages), "size": int(size),
        "ending": ending, "expected": int(expected), "headers": tuple(map(header, headers)),
    }


async def work(channel, calls):
    while calls:
        call = calls.pop(0)
        ping = calls.pop(0) if call["ending"] == "silent" else None
        await one(channel, call, ping)


async def call(connections, concurrent):
    channels, waiting = {}, {}
    options = METADATA + PINGS + [("grpc.use_local_subchannel_pool", 1)]
    while line := await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline):
        if line != "\n":
            made = read(line.rstrip("\n"))
            waiting.setdefault(made["port"], []).append(made)
            continue
        tasks = []
        for port, calls in waiting.items():
            if port not in channels:
                target = f"127.0.0.1:{port}"
                channels[port] = [grpc.aio.insecure_channel(target, options) for _ in range(connections)]
                for channel in channels[port]:
                    await channel.channel_ready()
            part = -(-len(calls) // connections)
            for at, channel in enumerate(channels[port]):
                share = calls[at * part : (at + 1) * part]
                tasks += [work(channel, share) for _ in range(concurrent)]
        await asyncio.gather(*tasks)
        waiting.clear()
        print("done", flush=True)


asyncio.run(serve() if sys.argv[1] == "serve" else call(int(sys.argv[2]), int(sys.argv[3])))
