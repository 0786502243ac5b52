// HTTPS server of the plaintext tests: `server.mjs FOLDER` prints its port. The certificate is in the folder.
import fs from "node:fs";
import https from "node:https";

const folder = process.argv[2];
const options = { key: fs.readFileSync(`${folder}/server.key`), cert: fs.readFileSync(`${folder}/server.pem`) };
const server = https.createServer(options, (request, response) => {
  response.writeHead(request.headers.authorization ? 200 : 401, { "Content-Length": 3 });
  response.end("ok\n");
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
process.stdin.resume();
process.stdin.on("end", () => process.exit(0));
