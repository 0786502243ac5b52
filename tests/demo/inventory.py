"""The demo's inventory service: `inventory.py` listens on loopback and prints its port. It trusts whoever reaches it."""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Inventory(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def send(self, status, value, headers=()):
        body = json.dumps(value).encode()
        self.send_response(status)
        for name, text in headers:
            self.send_header(name, text)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def require_credential(self):
        if self.headers.get("Authorization"):
            return True
        self.send(401, {"error": "who are you?"}, [("WWW-Authenticate", "Basic")])
        return False

    def do_GET(self):
        if self.path.startswith("/items/"):
            # For "just this one page", once; now every page can read the stock.
            self.send(200, {"item": self.path[7:], "stock": 3}, [("Access-Control-Allow-Origin", "*")])
        elif self.path == "/prices":
            # Reads the token's claims and never checks its signature or expiry.
            if self.require_credential():
                self.send(200, {"42": 9.99})
        elif self.path == "/audit-log":
            if self.require_credential():
                self.send(200, [])
        else:
            self.send(404, {"error": "no such thing"})

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.require_credential():
            self.send(201, {"reserved": True})

    def do_DELETE(self):
        # "Nobody outside can reach this."
        self.send(200, {"flushed": True})


server = ThreadingHTTPServer(("127.0.0.1", 0), Inventory)
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_port, flush=True)
sys.stdin.read()
