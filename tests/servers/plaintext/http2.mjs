// HTTP/2 server inside TLS: `http2.mjs FOLDER` prints its port. What paths mean is in `tests/tests/plaintext_http2.rs`.
import fs from "node:fs";
import http2 from "node:http2";

const file = (name) => fs.readFileSync(`${process.argv[2]}/${name}`);
const server = http2.createSecureServer({
  key: file("server.key"), cert: file("server.pem"), ca: file("authority.pem"), requestCert: true, rejectUnauthorized: false,
  maxSessionMemory: 100, settings: { maxConcurrentStreams: 1000 },
});
server.on("stream", (stream, headers) => {
  const [, , , kind, code] = headers[":path"].split("/");
  stream.on("error", () => {});
  stream.resume();
  if (kind === "grpc") {
    stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
    stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": code }));
    stream.end(Buffer.alloc(300));
  } else if (kind === "large") {
    stream.respond({ ":status": 200 });
    stream.end("x".repeat(50_000));
  } else {
    stream.respond({ ":status": headers.authorization || kind === "certificate" ? 200 : 401 });
    stream.end("ok\n");
  }
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
process.stdin.resume();
process.stdin.on("end", () => process.exit(0));
