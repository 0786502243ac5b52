// Makes calls over an AF_UNIX socket, several at a time on connections that are kept, and prints the path of each that was answered.
import { Agent, request } from "node:http";

const [socketPath, prefix, count] = [process.argv[2], process.argv[3], Number(process.argv[4])];
const agent = new Agent({ keepAlive: true, maxSockets: 4 });

const call = (number) =>
  new Promise((resolve, reject) => {
    const ways = ["plain", "post", "big", "chunked"];
    const way = ways[number % ways.length];
    const path = `/${prefix}/${way}/${number}`;
    const headers = number % 3 === 0 ? { authorization: `Bearer token-of-${prefix}` } : {};
    const method = way === "post" ? "POST" : "GET";
    const outgoing = request({ socketPath, path, method, headers, agent }, (response) => {
      response.resume();
      response.on("end", () => {
        console.log(path);
        resolve();
      });
    });
    outgoing.on("error", reject);
    outgoing.end(way === "post" ? "z".repeat(50_000) : undefined);
  });

await Promise.all(Array.from({ length: count }, (_, number) => call(number)));
agent.destroy();
