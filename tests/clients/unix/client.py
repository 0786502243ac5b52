"""Makes calls over an AF_UNIX socket, written in many ways, and prints the path of each that was answered."""

import socket
import sys

path, prefix, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
WAYS = ["plain", "split", "bytes", "iov", "post", "postbig", "big", "writev", "sendfile", "chunked", "long"]


def connect():
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(path)
    return connection


def response(connection, step):
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(step)
        if not part:
            raise SystemExit("closed")
        data += part
    head, body = data.split(b"\r\n\r\n", 1)
    assert head.startswith(b"HTTP/1.1 200"), head
    lower = head.lower()
    if b"chunked" in lower:
        while not body.endswith(b"0\r\n\r\n"):
            body += connection.recv(step)
        return
    length = int(lower.split(b"content-length:")[1].split(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(max(step, 65536))


connection = connect()
for number in range(count):
    way = WAYS[number % len(WAYS)]
    target = f"/{prefix}/{way}/{number}"
    headers = "Host: unix\r\n"
    if number % 3 == 0:
        headers += f"Authorization: Bearer token-of-{prefix}\r\n"
    if way == "long":
        headers += "X-Long: " + "y" * 9000 + "\r\n"
    body = b"z" * (100_000 if way == "postbig" else 10) if way.startswith("post") else b""
    method = "POST" if body else "GET"
    if body:
        headers += f"Content-Length: {len(body)}\r\n"
    head = f"{method} {target} HTTP/1.1\r\n{headers}\r\n".encode()
    if way == "split":
        for part in (head[:6], head[6:20], head[20:]):
            connection.sendall(part)
    elif way == "bytes":
        for at in range(len(head)):
            connection.sendall(head[at : at + 1])
    elif way == "iov":
        connection.sendmsg([head[:3], head[3:9], b"", head[9:30], head[30:]])
    elif way == "postbig":
        connection.sendall(head)
        connection.sendall(body)
    else:
        connection.sendall(head + body)
    response(connection, 7 if way == "plain" else 65536)
    print(target, flush=True)
    if number % 25 == 24:
        connection.close()
        connection = connect()
