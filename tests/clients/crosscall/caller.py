"""GETs the URL given with a header, `NAME: VALUE` on standard input, prints the status, and stays until the
input ends."""

import sys
import urllib.request

name, value = sys.stdin.readline().strip().split(": ", 1)
request = urllib.request.Request(sys.argv[1], headers={name: value})
with urllib.request.urlopen(request, timeout=20) as response:
    print(response.status, flush=True)
sys.stdin.read()
