"""Answers HTTP/1.1 on an AF_UNIX socket, in the many ways a response can be written. Prints a line once it listens."""

import http.server
import os
import socketserver
import sys

path = sys.argv[1]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        length = int(self.headers.get("Content-Length", 0))
        while length:
            length -= len(self.rfile.read(min(length, 65536)))
        body = b"x" * (300_000 if "big" in self.path else 5)
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        if "writev" in self.path:
            os.writev(self.connection.fileno(), [head[:4], head[4:20], head[20:], body])
        elif "sendfile" in self.path:
            self.connection.sendall(head)
            with open(path + ".body", "rb") as file:
                left, at = len(body), 0
                while left:
                    sent = os.sendfile(self.connection.fileno(), file.fileno(), at, left)
                    left, at = left - sent, at + sent
        elif "chunked" in self.path:
            self.connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            self.connection.sendall(b"5\r\nhello\r\n")
            self.connection.sendall(b"0\r\n\r\n")
        else:
            self.connection.sendmsg([head, body[:5]])
            self.connection.sendall(body[5:])

    do_GET = do_POST = answer

    def address_string(self):
        return "unix"

    def log_message(self, *arguments):
        pass


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 128


with open(path + ".body", "wb") as file:
    file.write(b"x" * 5)
server = Server(path, Handler)
print("listening", flush=True)
server.serve_forever()
