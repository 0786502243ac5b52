"""HTTPS client of the plaintext tests: `client.py FOLDER PORT`. Reads a path, and maybe a credential behind a blank, from each line
of standard input; prints each answer's status. All calls are made on one connection."""
import http.client
import ssl
import sys

folder, port = sys.argv[1:]
context = ssl.create_default_context(cafile=f"{folder}/server.pem")
connection = http.client.HTTPSConnection("127.0.0.1", int(port), context=context, timeout=20)
for line in sys.stdin:
    path, _, credential = line.rstrip("\n").partition(" ")
    connection.request("GET", path, headers={"Authorization": credential} if credential else {})
    answer = connection.getresponse()
    answer.read()
    print(answer.status, flush=True)
