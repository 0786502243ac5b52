// TLS server of the matrix: `server.mjs DIRECTORY MODE:VERSION...`; what it prints and answers is in `tests/src/tls/servers.rs`.
import fs from "node:fs";
import https from "node:https";

const [directory, ...endpoints] = process.argv.slice(2);
const file = (name) => fs.readFileSync(`${directory}/${name}`);

function listen(endpoint) {
  const [mode, version] = endpoint.split(":");
  const options = {
    cert: file("server.pem"), key: file("server.key"), ca: file("authority.pem"),
    requestCert: mode !== "off", rejectUnauthorized: mode === "required",
    minVersion: `TLSv${version}`, maxVersion: `TLSv${version}`,
  };
  const server = https.createServer(options, (request, response) => {
    const { socket } = request;
    const resumed = socket.isSessionReused() ? "yes" : "no";
    const subject = socket.getPeerCertificate()?.subject?.CN ?? "-";
    const line = `${socket.remotePort}\t${version}\t${resumed}\t${subject}\n`;
    response.writeHead(200, { Connection: "close", "Content-Length": line.length });
    response.end(line);
  });
  // The port before the handshake: afterwards a closed socket has none.
  const ports = new WeakMap();
  server.on("connection", (socket) => ports.set(socket, socket.remotePort));
  server.on("tlsClientError", (error, socket) => {
    console.log(`refused ${ports.get(socket._parent)} ${socket.authorizationError ?? error.message.trim()}`);
  });
  return new Promise((done) => server.listen(0, "127.0.0.1", () => done(server.address().port)));
}

const ports = [];
for (const endpoint of endpoints) ports.push(await listen(endpoint));
console.log(ports.join(" "));
process.stdin.resume();
process.stdin.on("end", () => process.exit(0));
