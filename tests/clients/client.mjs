// HTTP client of the oracle: rows of calls on stdin, `run` performs them; the format is in `tests/src/clients.rs`.
import http from "node:http";
import readline from "node:readline";

const agents = new Map();

function call(row) {
  if (!agents.has(row.group)) agents.set(row.group, new http.Agent({ keepAlive: true, maxSockets: 1 }));
  return new Promise((done) => {
    const chunked = row.mode === "chunked";
    const headers = { ...row.headers };
    if (chunked) headers["Transfer-Encoding"] = "chunked";
    else if (row.body) headers["Content-Length"] = row.body;
    if (row.mode === "expect") headers.Expect = "100-continue";
    if (row.mode === "upgrade") Object.assign(headers, { Connection: "Upgrade", Upgrade: "oracle" });
    const request = http.request({
      host: row.address, port: row.port, method: row.method, path: row.target, headers, agent: agents.get(row.group),
    });
    const fail = (error) => done([row.id, "error", String(error)]);
    request.on("error", fail);
    request.setTimeout(20_000, () => request.destroy(new Error("timeout")));
    request.on("response", (response) => {
      response.on("error", fail);
      response.on("end", () => done([row.id, response.statusCode]));
      response.resume();
    });
    request.on("upgrade", (response, socket) => {
      socket.on("error", () => {});
      socket.once("data", () => {
        socket.destroy();
        done([row.id, response.statusCode]);
      });
      socket.write("not http any more\r\n\r\n");
    });
    const send = () => {
      if (chunked) for (let sent = 0; sent < row.body; sent += 4096) request.write(Buffer.alloc(4096, "c"));
      else if (row.body) request.write(Buffer.alloc(row.body, "b"));
      request.end();
    };
    if (row.mode === "expect") {
      request.on("continue", send);
      request.flushHeaders();
    } else {
      send();
    }
  });
}

let groups = new Map();

async function run() {
  await Promise.all([...groups.values()].map(async (rows) => {
    for (const row of rows) console.log((await call(row)).join("\t"));
  }));
  groups = new Map();
  console.log("done");
}

console.log("ready");
for await (const line of readline.createInterface({ input: process.stdin })) {
  if (line === "run") {
    await run();
    continue;
  }
  const [id, group, address, port, mode, method, target, body, ...headers] = line.split("\t");
  const row = { id, group, address, port: Number(port), mode, method, target, body: Number(body), headers: {} };
  for (const header of headers) {
    const at = header.indexOf(": ");
    row.headers[header.slice(0, at)] = header.slice(at + 2);
  }
  if (!groups.has(group)) groups.set(group, []);
  groups.get(group).push(row);
}
process.exit(0);
