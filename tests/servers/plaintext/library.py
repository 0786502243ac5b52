"""HTTPS over a libssl that is named: `library.py LIBRARY FOLDER MAXIMUM serve` prints its port, asks clients for a certificate and
answers until standard input ends; `library.py LIBRARY FOLDER MAXIMUM call PORT CERTIFICATE` calls each path of standard input on one
connection and prints the status. MAXIMUM is a version of TLS, 1.2 or 1.3; CERTIFICATE a name in the folder, or `-`.

The functions used are those that OpenSSL 1.1.1 and BoringSSL have in common."""
import ctypes
import socket
import sys
import threading

library, folder, maximum, role = sys.argv[1:5]
ssl = ctypes.CDLL(library)
for name in ["TLS_method", "SSL_CTX_new", "SSL_new"]:
    getattr(ssl, name).restype = ctypes.c_void_p

VERSIONS = {"1.2": 0x0303, "1.3": 0x0304}
FILETYPE_PEM = 1
VERIFY_PEER = 1
# A macro in OpenSSL (openssl/ssl.h), a function in BoringSSL.
CTRL_SET_MAX_PROTO_VERSION = 124


def context(certificate):
    made = ctypes.c_void_p(ssl.SSL_CTX_new(ctypes.c_void_p(ssl.TLS_method())))
    if hasattr(ssl, "SSL_CTX_set_max_proto_version"):
        done = ssl.SSL_CTX_set_max_proto_version(made, ctypes.c_uint16(VERSIONS[maximum]))
    else:
        done = ssl.SSL_CTX_ctrl(made, CTRL_SET_MAX_PROTO_VERSION, ctypes.c_long(VERSIONS[maximum]), None)
    assert done == 1
    if certificate != "-":
        path = f"{folder}/{certificate}".encode()
        assert ssl.SSL_CTX_use_certificate_chain_file(made, path + b".pem") == 1
        assert ssl.SSL_CTX_use_PrivateKey_file(made, path + b".key", FILETYPE_PEM) == 1
    return made


def session(made, connection):
    opened = ctypes.c_void_p(ssl.SSL_new(made))
    assert ssl.SSL_set_fd(opened, connection.fileno()) == 1
    return opened


def read_until(opened, end):
    """What comes up to `end`; nothing where it does not come."""
    text, buffer = b"", ctypes.create_string_buffer(4096)
    while not text.endswith(end):
        count = ssl.SSL_read(opened, buffer, len(buffer))
        if count <= 0:
            return b""
        text += buffer.raw[:count]
    return text


def answer(made, connection):
    opened = session(made, connection)
    if ssl.SSL_accept(opened) == 1:
        text = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"
        while read_until(opened, b"\r\n\r\n"):
            ssl.SSL_write(opened, text, len(text))
    ssl.SSL_free(opened)
    connection.close()


def serve():
    made = context("server")
    assert ssl.SSL_CTX_load_verify_locations(made, f"{folder}/{sys.argv[5]}".encode(), None) == 1
    ssl.SSL_CTX_set_verify(made, VERIFY_PEER, None)
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=answer, args=(made, connection), daemon=True).start()


def call():
    port, certificate = sys.argv[5:7]
    connection = socket.create_connection(("127.0.0.1", int(port)))
    opened = session(context(certificate), connection)
    assert ssl.SSL_connect(opened) == 1
    for path in sys.stdin:
        text = f"GET {path.strip()} HTTP/1.1\r\nHost: library\r\n\r\n".encode()
        ssl.SSL_write(opened, text, len(text))
        print(read_until(opened, b"ok\n").split(b" ")[1].decode(), connection.getsockname()[1], flush=True)
    ssl.SSL_shutdown(opened)
    ssl.SSL_free(opened)


if role == "serve":
    threading.Thread(target=serve, daemon=True).start()
    sys.stdin.read()
else:
    call()
