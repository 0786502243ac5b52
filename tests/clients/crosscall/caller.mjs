// GETs the URL given with a header, `NAME: VALUE` on standard input, prints the status, and stays until the input ends.

import { get } from "node:http";
import { createInterface } from "node:readline";

createInterface({ input: process.stdin }).once("line", (line) => {
  const [name, value] = line.trim().split(": ");
  get(process.argv[2], { headers: { [name]: value }, agent: false }, (response) => {
    response.resume();
    response.on("end", () => console.log(response.statusCode));
  });
});
