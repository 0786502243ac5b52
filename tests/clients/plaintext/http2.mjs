// HTTP/2 client inside TLS: `http2.mjs FOLDER PORT NAME` makes the calls that come on standard input, a line each, up to 10 at once
// over one connection, until an empty line, and prints how many were answered. NAME is that of a client certificate, or `-`. What
// paths mean is in `tests/tests/plaintext_http2.rs`.
import fs from "node:fs";
import http2 from "node:http2";
import readline from "node:readline";

const [folder, port, name] = process.argv.slice(2);
const file = (name) => fs.readFileSync(`${folder}/${name}`);
const options = { ca: file("authority.pem"), maxSessionMemory: 100, maxSendHeaderBlockLength: 262144 };
if (name !== "-") Object.assign(options, { cert: file(`${name}.pem`), key: file(`${name}.key`) });
const session = http2.connect(`https://127.0.0.1:${port}`, options);

function call(line) {
  const at = line.indexOf(" ");
  const path = at < 0 ? line : line.slice(0, at);
  const kind = path.split("/")[3];
  const body = { post: "y".repeat(60_000), grpc: "z".repeat(300) }[kind];
  const headers = { ":path": path, ":method": body ? "POST" : "GET" };
  if (at > 0) headers.authorization = line.slice(at + 1);
  if (kind === "grpc") headers["content-type"] = "application/grpc";
  if (kind === "long") headers["x-long"] = "h".repeat(40_000);
  return new Promise((resolve, reject) => {
    const stream = session.request(headers, { endStream: !body });
    let status;
    stream.on("response", (answer) => (status = answer[":status"]));
    stream.on("error", reject);
    stream.on("close", () => resolve(status !== undefined));
    stream.resume();
    if (body) stream.end(body);
  });
}

let lines = [];
for await (const line of readline.createInterface({ input: process.stdin })) {
  if (line) {
    lines.push(line);
    continue;
  }
  let answered = 0;
  const next = async () => {
    for (let one = lines.shift(); one; one = lines.shift()) if (await call(one)) answered += 1;
  };
  await Promise.all(Array.from({ length: 10 }, next));
  console.log(answered);
}
process.exit(0);
