"""TLS client of the matrix: rows of connections on stdin; the format is in `tests/src/tls/clients.rs`."""

import socket
import ssl
import sys

directory = sys.argv[1]
contexts, sessions = {}, {}


def context(group, certificate):
    if group not in contexts:
        made = ssl.create_default_context(cafile=f"{directory}/authority.pem")
        if certificate != "-":
            made.load_cert_chain(f"{directory}/{certificate}.pem", f"{directory}/{certificate}.key")
        contexts[group] = made
    return contexts[group]


def connect(group, port, certificate, plain):
    plain.connect(("127.0.0.1", int(port)))
    local = plain.getsockname()[1]
    try:
        wrap = context(group, certificate).wrap_socket
        with wrap(plain, server_hostname="localhost", session=sessions.get(group)) as secure:
            secure.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            text = b""
            while data := secure.recv(4096):
                text += data
            sessions[group] = secure.session
            if not text:
                return local, "error", "the connection ended without an answer"
            line = next(line for line in reversed(text.decode().split("\n")) if "\t" in line)
            return local, text.split(b" ")[1].decode(), "yes" if secure.session_reused else "no", line.strip()
    except OSError as error:
        return local, "error", " ".join(str(error).split())


print("ready", flush=True)
for row in sys.stdin:
    id, *fields = row.rstrip("\n").split("\t")
    with socket.socket() as plain:
        print(id, *connect(*fields, plain), sep="\t", flush=True)
