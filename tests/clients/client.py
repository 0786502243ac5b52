"""HTTP client of the oracle: rows of calls on stdin, `run` performs them; the format is in `tests/src/clients.rs`."""

import http.client
import socket
import sys
import threading

lock = threading.Lock()


def say(*words):
    with lock:
        print(*words, sep="\t", flush=True)


class Shared:
    """A socket file whose close() is ignored, so that one buffer serves all responses of a connection."""

    def __init__(self, file):
        self.file = file

    def makefile(self, *_):
        return self

    def close(self):
        pass

    def __getattr__(self, name):
        return getattr(self.file, name)


class Raw:
    """One connection on which bytes are written as they stand."""

    def __init__(self, address, port):
        self.socket = socket.create_connection((address, port), timeout=20)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = Shared(self.socket.makefile("rb"))

    def read(self, method):
        response = http.client.HTTPResponse(self.file, method=method)
        response.begin()
        response.read()
        return response.status


def head_of(row):
    mode = row["mode"]
    version = "1.0" if mode == "http10" else "1.1"
    host = f"[{row['address']}]" if ":" in row["address"] else row["address"]
    host = f"{host}:{row['port']}"
    target = f"http://{host}{row['target']}" if mode == "absolute" else row["target"]
    lines = [f"{row['method']} {target} HTTP/{version}", f"Host: {host}", *(f"{n}: {v}" for n, v in row["headers"])]
    if mode == "http10":
        lines.append("Connection: keep-alive")
    if row["body"]:
        lines.append(f"Content-Length: {row['body']}")
    end = "\n" if mode == "bare-lf" else "\r\n"
    return (end.join(lines) + end + end).encode()


def raw_calls(connections, rows):
    """Rows with mode `pipeline` are all written before the first answer is read."""
    first = rows[0]
    connection = connections.get(first["group"])
    if connection is None:
        connection = connections[first["group"]] = Raw(first["address"], first["port"])
    for row in rows:
        data = head_of(row) + b"b" * row["body"]
        if row["mode"] == "bytes":
            for byte in data:
                connection.socket.sendall(bytes([byte]))
        elif row["mode"].startswith("split:"):
            at = int(row["mode"][6:]) % len(data)
            connection.socket.sendall(data[:at])
            connection.socket.sendall(data[at:])
        elif row["mode"] == "pipeline":
            continue
        else:
            connection.socket.sendall(data)
    if first["mode"] == "pipeline":
        connection.socket.sendall(b"".join(head_of(row) + b"b" * row["body"] for row in rows))
    for row in rows:
        say(row["id"], connection.read(row["method"]))


def plain_call(connections, row):
    connection = connections.get(row["group"])
    if connection is None:
        connection = connections[row["group"]] = http.client.HTTPConnection(row["address"], row["port"], timeout=20)
    chunked = row["mode"] == "chunked"
    if chunked:
        body = (b"c" * 4096 for _ in range(row["body"] // 4096))
    else:
        body = b"b" * row["body"] or None
    headers = dict(row["headers"])
    if chunked:
        headers["Transfer-Encoding"] = "chunked"
    connection.request(row["method"], row["target"], body=body, headers=headers, encode_chunked=chunked)
    response = connection.getresponse()
    response.read()
    say(row["id"], response.status)


def perform(connections, rows):
    index = 0
    while index < len(rows):
        step = 1
        if rows[index]["mode"] == "pipeline":
            while index + step < len(rows) and rows[index + step]["mode"] == "pipeline":
                step += 1
        batch = rows[index : index + step]
        index += step
        try:
            if batch[0]["mode"] in ("plain", "chunked"):
                plain_call(connections, batch[0])
            else:
                raw_calls(connections, batch)
        except Exception as error:
            for row in batch:
                say(row["id"], "error", repr(error).replace("\t", " "))
            connections.pop(batch[0]["group"], None)


def main():
    connections, groups = {}, {}
    say("ready")
    for line in sys.stdin:
        words = line.rstrip("\n").split("\t")
        if words == ["run"]:
            threads = [threading.Thread(target=perform, args=(connections, rows)) for rows in groups.values()]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            groups = {}
            say("done")
            continue
        names = ("id", "group", "address", "port", "mode", "method", "target", "body")
        row = dict(zip(names, words))
        row["port"], row["body"] = int(row["port"]), int(row["body"])
        row["headers"] = [header.split(": ", 1) for header in words[len(names) :]]
        groups.setdefault(row["group"], []).append(row)


main()
