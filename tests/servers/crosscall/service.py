"""Answers every GET with 200, or sends it on to the port given and gives that answer: with all its headers ("pass"), or without
those that hold a credential ("strip"). Prints its own port."""

import http.client
import http.server
import sys

CREDENTIALS = {"authorization", "x-api-key"}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        status = self.send_on() if len(sys.argv) > 1 else 200
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def send_on(self):
        mode, port = sys.argv[1], int(sys.argv[2])
        backend = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        kept = {name: value for name, value in self.headers.items() if mode == "pass" or name.lower() not in CREDENTIALS}
        backend.request("GET", self.path, headers=kept)
        status = backend.getresponse().status
        backend.close()
        return status

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
