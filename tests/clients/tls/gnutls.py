"""TLS client of the matrix on GnuTLS: rows of connections on stdin; the format is in `tests/src/tls/clients.rs`.

The library is called directly: a process of its own for each connection could not resume sessions.
"""

import ctypes
import socket
import sys

gnutls = ctypes.CDLL("libgnutls.so.30")
for name in ("gnutls_record_send", "gnutls_record_recv"):
    getattr(gnutls, name).restype = ctypes.c_ssize_t
    getattr(gnutls, name).argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
gnutls.gnutls_strerror.restype = ctypes.c_char_p

# Values of gnutls.h.
CLIENT, FORCE_CLIENT_CERT = 1 << 1, 1 << 9
CRD_CERTIFICATE, X509_FMT_PEM, NAME_DNS, SHUT_WR = 1, 1, 1, 1
E_AGAIN, E_INTERRUPTED = -28, -52

directory = sys.argv[1].encode()
sessions = {}


class Datum(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("size", ctypes.c_uint)]


class Failure(Exception):
    pass


def call(name, *arguments):
    while True:
        result = getattr(gnutls, name)(*arguments)
        if result not in (E_AGAIN, E_INTERRUPTED):
            break
    if result < 0:
        raise Failure(f"{name}: {gnutls.gnutls_strerror(result).decode()}")
    return result


def session_of(group, certificate, credentials, fd):
    session = ctypes.c_void_p()
    call("gnutls_certificate_allocate_credentials", ctypes.byref(credentials))
    call("gnutls_certificate_set_x509_trust_file", credentials, directory + b"/authority.pem", X509_FMT_PEM)
    if certificate != "-":
        file = directory + b"/" + certificate.encode()
        call("gnutls_certificate_set_x509_key_file", credentials, file + b".pem", file + b".key", X509_FMT_PEM)
    # Whatever authorities the server names.
    call("gnutls_init", ctypes.byref(session), CLIENT | FORCE_CLIENT_CERT)
    call("gnutls_set_default_priority", session)
    call("gnutls_credentials_set", session, CRD_CERTIFICATE, credentials)
    call("gnutls_server_name_set", session, NAME_DNS, b"localhost", ctypes.c_size_t(9))
    gnutls.gnutls_session_set_verify_cert(session, b"localhost", 0)
    gnutls.gnutls_transport_set_int2(session, fd, fd)
    if group in sessions:
        call("gnutls_session_set_data", session, sessions[group], ctypes.c_size_t(len(sessions[group])))
    return session


def ask(group, session):
    call("gnutls_handshake", session)
    request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    call("gnutls_record_send", session, request, len(request))
    text, buffer = b"", ctypes.create_string_buffer(4096)
    while length := call("gnutls_record_recv", session, buffer, len(buffer)):
        text += buffer.raw[:length]
    data = Datum()
    if gnutls.gnutls_session_get_data2(session, ctypes.byref(data)) == 0:
        sessions[group] = ctypes.string_at(data.data, data.size)
    gnutls.gnutls_bye(session, SHUT_WR)
    if not text:
        raise Failure("the connection ended without an answer")
    line = next(line for line in reversed(text.decode().split("\n")) if "\t" in line)
    resumed = "yes" if gnutls.gnutls_session_is_resumed(session) else "no"
    return text.split(b" ")[1].decode(), resumed, line.strip()


def connect(group, port, certificate):
    with socket.create_connection(("127.0.0.1", int(port))) as plain:
        local = plain.getsockname()[1]
        credentials = ctypes.c_void_p()
        session = session_of(group, certificate, credentials, plain.fileno())
        try:
            return local, *ask(group, session)
        except Failure as failure:
            return local, "error", " ".join(str(failure).split())
        finally:
            gnutls.gnutls_deinit(session)
            gnutls.gnutls_certificate_free_credentials(credentials)


print("ready", flush=True)
for row in sys.stdin:
    id, *fields = row.rstrip("\n").split("\t")
    print(id, *connect(*fields), sep="\t", flush=True)
