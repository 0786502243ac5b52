"""HTTPS server of the plaintext tests: `server.py FOLDER thread|asyncio [ADDRESS]` prints its port. The certificate is in the folder.

With `asyncio` the session writes to memory, and the event loop to the socket."""
import asyncio
import http.server
import ssl
import sys
import threading

folder, kind = sys.argv[1:3]
address = sys.argv[3] if len(sys.argv) > 3 else "127.0.0.1"
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(f"{folder}/server.pem", f"{folder}/server.key")


def status(authorization):
    return 200 if authorization else 401


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(status(self.headers["Authorization"]))
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"ok\n")

    def log_message(self, *_):
        pass


async def answer(reader, writer):
    try:
        while head := (await reader.readuntil(b"\r\n\r\n")).lower():
            code = status(b"\r\nauthorization:" in head)
            writer.write(b"HTTP/1.1 %d X\r\nContent-Length: 3\r\n\r\nok\n" % code)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
        writer.close()


async def serve():
    server = await asyncio.start_server(answer, address, 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


if kind == "asyncio":
    asyncio.run(serve())
else:
    server = http.server.ThreadingHTTPServer((address, 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()
