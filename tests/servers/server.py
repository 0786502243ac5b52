"""HTTP server of the oracle: `server.py ADDRESS...` listens on an ephemeral port of each and prints the ports on one line."""

import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PROOFS = ("authorization", "x-api-key", "cookie", "x-internal-auth", "signature")
STATUS = {"open": 200, "forbidden": 403, "missing": 404, "error": 500, "cors": 200, "redirect": 302}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __getattr__(self, name):
        if name.startswith("do_"):
            return self.answer
        raise AttributeError(name)

    def log_message(self, *_):
        pass

    def read_body(self):
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            total = 0
            while size := int(self.rfile.readline().split(b";")[0], 16):
                total += len(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return total
        return len(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def send(self, status, body=b"", headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD" and status not in (204, 304):
            self.wfile.write(body)

    def answer(self):
        path = self.path
        if path.startswith("http://"):
            path = "/" + path.split("/", 3)[3]
        parts = path.split("?")[0].split("/")
        route = parts[1]
        if route == "upgrade":
            return self.upgrade()
        length = self.read_body()
        if route == "guarded":
            if any(self.headers.get(name) for name in PROOFS):
                self.send(200, b"welcome\n")
            else:
                self.send(401, b"who are you?\n", [("WWW-Authenticate", "Bearer")])
        elif route == "big":
            self.send(200, b"x" * int(parts[2]))
        elif route == "chunked":
            self.chunked()
        elif route == "close":
            self.close_connection = True
            self.wfile.write(b"HTTP/1.0 200 OK\r\nServer: close\r\n\r\nuntil the end\n")
        elif route == "empty":
            self.send(204)
        elif route == "unchanged":
            self.send(304, headers=[("ETag", '"1"')])
        elif route == "echo":
            self.send(200, f"{length}\n".encode())
        elif route == "hints":
            self.wfile.write(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n")
            self.send(200, b"hinted\n")
        else:
            headers = {"cors": [("Access-Control-Allow-Origin", "*")], "redirect": [("Location", "/open/redirected")]}
            self.send(STATUS.get(route, 404), f"{route}\n".encode(), headers.get(route, ()))

    def chunked(self):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Trailer", "X-Sum")
        self.end_headers()
        if self.command != "HEAD":
            for size in (1, 300, 5000):
                self.wfile.write(b"%x\r\n%s\r\n" % (size, b"y" * size))
            self.wfile.write(b"0\r\nX-Sum: 1\r\n\r\n")

    def upgrade(self):
        self.close_connection = True
        self.wfile.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: oracle\r\n\r\n")
        while data := self.connection.recv(4096):
            self.connection.sendall(data)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address):
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        super().__init__((address, 0), Handler)

    def server_bind(self):
        # Without HTTPServer's look-up of the host's name.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = self.server_address[:2]

    def handle_error(self, *_):
        pass


servers = [Server(address) for address in sys.argv[1:]]
for server in servers:
    threading.Thread(target=server.serve_forever, daemon=True).start()
print(*(server.server_port for server in servers), flush=True)
sys.stdin.read()
