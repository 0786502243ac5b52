"""The demo's storefront: `storefront.py GATEWAY-PORT` orders through the gateway, with a token, until it is ended."""

import http.client
import os
import sys
import threading
import time

headers = {"Authorization": f"Bearer {os.environ['STOREFRONT_TOKEN']}"}
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=10)
while True:
    for method, path in [("GET", "/api/orders/17"), ("GET", "/api/orders/18"), ("POST", "/api/orders")]:
        connection.request(method, path, headers=headers)
        connection.getresponse().read()
    time.sleep(0.2)
