// Answers HTTP/1.1 on an AF_UNIX socket. Prints a line once it listens.
import { createServer } from "node:http";

const server = createServer((request, response) => {
  request.resume();
  request.on("end", () => {
    if (request.url.includes("big")) response.end("x".repeat(300_000));
    else if (request.url.includes("chunked")) {
      response.write("hello");
      response.end("world");
    } else response.end("hello");
  });
});
server.listen(process.argv[2], () => console.log("listening"));
