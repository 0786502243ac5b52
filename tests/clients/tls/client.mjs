// TLS client of the matrix: rows of connections on stdin; the format is in `tests/src/tls/clients.rs`.
import fs from "node:fs";
import readline from "node:readline";
import tls from "node:tls";

const directory = process.argv[2];
const file = (name) => fs.readFileSync(`${directory}/${name}`);
const ca = file("authority.pem");
const sessions = new Map();

function connect(id, group, port, certificate) {
  return new Promise((done) => {
    const options = { host: "127.0.0.1", port: Number(port), servername: "localhost", ca, session: sessions.get(group) };
    if (certificate !== "-") Object.assign(options, { cert: file(`${certificate}.pem`), key: file(`${certificate}.key`) });
    let local = 0;
    let text = "";
    const fail = (error) => done([id, local, "error", String(error).replace(/\s+/g, " ")]);
    const socket = tls.connect(options);
    socket.on("connect", () => (local = socket.localPort));
    socket.on("secureConnect", () => socket.write("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
    socket.on("session", (session) => sessions.set(group, session));
    socket.on("error", fail);
    socket.on("data", (data) => (text += data));
    socket.on("end", () => {
      const resumed = socket.isSessionReused() ? "yes" : "no";
      socket.destroy();
      if (!text) return fail("the connection ended without an answer");
      const body = text.slice(text.indexOf("\r\n\r\n")).trim();
      done([id, local, text.split(" ")[1], resumed, body]);
    });
  });
}

console.log("ready");
for await (const line of readline.createInterface({ input: process.stdin })) {
  console.log((await connect(...line.split("\t"))).join("\t"));
}
process.exit(0);
