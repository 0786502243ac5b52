// GETs the URL given with a header, `NAME: VALUE` on standard input, and prints the status.

import { get } from "node:http";
import { readFileSync } from "node:fs";

const [name, value] = readFileSync(0, "utf8").trim().split(": ");
get(process.argv[2], { headers: { [name]: value }, agent: false }, (response) => {
  response.resume();
  response.on("end", () => console.log(response.statusCode));
});
