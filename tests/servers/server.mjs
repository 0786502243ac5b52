// HTTP server of the oracle: `server.mjs ADDRESS...` listens on an ephemeral port of each and prints the ports on one line.
import http from "node:http";

const proofs = ["authorization", "x-api-key", "cookie", "x-internal-auth", "signature"];
const status = { open: 200, forbidden: 403, missing: 404, error: 500, cors: 200, redirect: 302 };
const extra = { cors: { "Access-Control-Allow-Origin": "*" }, redirect: { Location: "/open/redirected" } };

function send(response, code, body, headers = {}) {
  response.writeHead(code, code === 204 || code === 304 ? headers : { "Content-Length": body.length, ...headers });
  response.end(code === 204 || code === 304 ? undefined : body);
}

function answer(request, response, length) {
  const parts = request.url.replace(/^http:\/\/[^/]*/, "").split("?")[0].split("/");
  const route = parts[1];
  if (route === "guarded") {
    if (proofs.some((name) => request.headers[name])) send(response, 200, "welcome\n");
    else send(response, 401, "who are you?\n", { "WWW-Authenticate": "Bearer" });
  } else if (route === "big") {
    send(response, 200, "x".repeat(Number(parts[2])));
  } else if (route === "chunked") {
    if (request.method !== "HEAD") {
      response.writeHead(200, { Trailer: "X-Sum" });
      for (const size of [1, 300, 5000]) response.write("y".repeat(size));
      response.addTrailers({ "X-Sum": "1" });
    }
    response.end();
  } else if (route === "close") {
    request.socket.end("HTTP/1.0 200 OK\r\nServer: close\r\n\r\nuntil the end\n");
  } else if (route === "empty") {
    send(response, 204, "");
  } else if (route === "unchanged") {
    send(response, 304, "", { ETag: '"1"' });
  } else if (route === "echo") {
    send(response, 200, `${length}\n`);
  } else if (route === "hints") {
    response.writeEarlyHints({ link: "</style.css>; rel=preload" });
    send(response, 200, "hinted\n");
  } else {
    send(response, status[route] ?? 404, `${route}\n`, extra[route]);
  }
}

function listen(address) {
  const server = http.createServer({ keepAliveTimeout: 120_000, maxHeaderSize: 65_536 }, (request, response) => {
    let length = 0;
    request.on("data", (data) => (length += data.length));
    request.on("end", () => answer(request, response, length));
  });
  server.on("upgrade", (_, socket) => {
    socket.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: oracle\r\n\r\n");
    socket.on("error", () => {});
    socket.pipe(socket);
  });
  return new Promise((done) => server.listen(0, address, () => done(server.address().port)));
}

const ports = [];
for (const address of process.argv.slice(2)) ports.push(await listen(address));
console.log(ports.join(" "));
process.stdin.resume();
process.stdin.on("end", () => process.exit(0));
