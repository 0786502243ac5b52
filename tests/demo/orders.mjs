// The demo's order service: `orders.mjs INVENTORY-PORT` listens on loopback and prints its port.
import http from "node:http";

const inventory = Number(process.argv[2]);
const agent = new http.Agent({ keepAlive: true });
const basic = "Basic " + Buffer.from(`orders:${process.env.INVENTORY_PASSWORD}`).toString("base64");

function ask(method, path, headers = {}) {
  return new Promise((done, failed) => {
    const request = http.request({ host: "127.0.0.1", port: inventory, method, path, headers, agent }, (response) => {
      response.resume();
      response.on("end", () => done(response.statusCode));
    });
    request.on("error", failed);
    request.end();
  });
}

function send(response, status, value) {
  const body = JSON.stringify(value);
  response.writeHead(status, { "Content-Type": "application/json", "Content-Length": body.length });
  response.end(body);
}

async function answer(request, response) {
  const url = new URL(request.url, "http://orders");
  const bearer = (request.headers.authorization ?? "").startsWith("Bearer ");
  if (url.pathname === "/reports" && url.searchParams.has("access_token")) return send(response, 200, []);
  if (url.pathname === "/sync" && request.headers["x-api-key"]) return send(response, 200, []);
  if (!bearer) return send(response, 401, { error: "a token is needed" });
  // Does not look at the token's algorithm.
  if (url.pathname === "/export") return send(response, 200, []);
  if (request.method === "POST") {
    await ask("POST", "/items/42/reserve", { Authorization: basic });
    return send(response, 201, { order: 18 });
  }
  // Inside nobody asks who it is, so it does not say.
  await ask("GET", "/items/42");
  send(response, 200, { order: url.pathname.slice(8), item: 42 });
}

const server = http.createServer((request, response) => {
  request.resume();
  request.on("end", () => answer(request, response).catch(() => send(response, 502, { error: "inventory is gone" })));
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
process.stdin.resume();
process.stdin.on("end", () => process.exit(0));
