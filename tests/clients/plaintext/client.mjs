// HTTPS client of the plaintext tests: `client.mjs FOLDER PORT`. Reads a path, and maybe a credential behind a blank, from each
// line of standard input; prints each answer's status. All calls are made on one connection.
import fs from "node:fs";
import https from "node:https";
import readline from "node:readline";

const [folder, port] = process.argv.slice(2);
const agent = new https.Agent({ keepAlive: true, maxSockets: 1, ca: fs.readFileSync(`${folder}/server.pem`) });

function call(path, credential) {
  return new Promise((done, fail) => {
    const headers = credential ? { Authorization: credential } : {};
    const request = https.get({ host: "127.0.0.1", port, path, headers, agent }, (response) => {
      response.on("end", () => done(response.statusCode));
      response.resume();
    });
    request.on("error", fail);
  });
}

for await (const line of readline.createInterface({ input: process.stdin })) {
  const at = line.indexOf(" ");
  console.log(await (at < 0 ? call(line) : call(line.slice(0, at), line.slice(at + 1))));
}
process.exit(0);
