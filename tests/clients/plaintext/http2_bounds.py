"""HTTP/2 client of the plaintext bounds test: `http2_bounds.py PORT`. A line `FILE ANSWERS` on standard input has it send what the
file holds in one write on its one connection, wait for so many answers, and print that it did."""
import socket
import ssl
import sys

context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
connection = None


def read(length):
    held = b""
    while len(held) < length:
        piece = connection.recv(length - len(held))
        if not piece:
            sys.exit("the server went away")
        held += piece
    return held


for line in sys.stdin:
    file, answers = line.split()
    if connection is None:
        connection = context.wrap_socket(socket.create_connection(("127.0.0.1", int(sys.argv[1]))))
    with open(file, "rb") as held:
        connection.sendall(held.read())
    left = int(answers)
    while left > 0:
        header = read(9)
        read(int.from_bytes(header[:3], "big"))
        left -= header[3] == 1
    print("answered", flush=True)
