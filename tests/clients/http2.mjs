// Makes the calls that come on standard input, a JSON list a line, over a few HTTP/2 connections that stay open, up to 100 at a time
// on each; says "done" after each list.
import http2 from 'node:http2';
import readline from 'node:readline';

const [port, connections] = process.argv.slice(2).map(Number);
const options = { maxSessionMemory: 100, maxSendHeaderBlockLength: 262144 };
const sessions = Array.from({ length: connections }, () => http2.connect(`http://127.0.0.1:${port}`, options));

const one = (session, call) => new Promise((resolve, reject) => {
  const stream = session.request(call.headers, { endStream: !call.body });
  stream.on('error', reject);
  stream.on('close', resolve);
  stream.resume();
  if (call.body) stream.end('y'.repeat(call.body));
  if (call.headers['x-silent']) session.ping(() => stream.close(http2.constants.NGHTTP2_CANCEL));
});

const all = async (session, calls) => {
  const next = async () => {
    for (let call = calls.shift(); call; call = calls.shift()) await one(session, call);
  };
  await Promise.all(Array.from({ length: 100 }, next));
};

readline.createInterface({ input: process.stdin }).on('line', async (line) => {
  const calls = JSON.parse(line);
  const share = (at) => calls.filter((_, index) => index % connections === at);
  await Promise.all(sessions.map((session, at) => all(session, share(at))));
  console.log('done');
});
