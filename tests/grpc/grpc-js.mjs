// gRPC client and server of the oracle, by @grpc/grpc-js: `grpc-js.mjs serve` or `grpc-js.mjs call`. See src/grpc/mod.rs for what is said.
import { createRequire } from 'node:module';
import readline from 'node:readline';

// By require: it looks into NODE_PATH.
const grpc = createRequire(import.meta.url)('@grpc/grpc-js');
const same = (bytes) => bytes;
const MOST_CALLS = 200000;

const answer = (call) => {
  const [mode, status, count, size] = call.metadata.get('x-answer')[0].split(' ');
  const payload = Buffer.alloc(Number(size), 'a');
  const finish = () => {
    for (let sent = 0; sent < Number(count); sent++) call.write(payload);
    if (mode === 'hang') return;
    if (Number(status)) call.emit('error', { code: Number(status), details: 'as asked' });
    else call.end();
  };
  call.on('error', () => {});
  if (mode === 'early' || mode === 'hang') {
    finish();
    return;
  }
  call.on('data', () => mode === 'echo' && call.write(payload));
  call.on('end', finish);
};

const serve = () => {
  const server = new grpc.Server({ 'grpc.max_metadata_size': 131072, 'grpc-node.max_session_memory': 1000 });
  for (let number = 0; number < MOST_CALLS; number++) server.register(`/oracle.Calls/${number}`, answer, same, same, 'bidi');
  server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, port) => {
    if (error) throw error;
    console.log(port);
  });
  process.stdin.resume().on('end', () => process.exit());
};

const begin = (client, call, done) => {
  const path = `/oracle.Calls/${call.number}`;
  const metadata = new grpc.Metadata();
  for (const [name, value] of call.headers) metadata.set(name, name.endsWith('-bin') ? Buffer.from(value) : value);
  const payload = Buffer.alloc(call.size, 'q');
  const all = (stream) => {
    for (let sent = 0; sent < call.messages; sent++) stream.write(payload);
    stream.end();
    return stream;
  };
  if (call.shape === 'unary') return client.makeUnaryRequest(path, same, same, payload, metadata, done);
  if (call.shape === 'client') return all(client.makeClientStreamRequest(path, same, same, metadata, done));
  if (call.shape === 'server') return client.makeServerStreamRequest(path, same, same, payload, metadata);
  return all(client.makeBidiStreamRequest(path, same, same, metadata));
};

const one = (client, call, ping) =>
  new Promise((resolve) => {
    const rpc = begin(client, call, () => {});
    rpc.on('error', () => {});
    rpc.on('data', () => call.ending === 'first' && rpc.cancel());
    rpc.on('status', ({ code, details }) => {
      if (code !== call.expected) console.log(`${call.number} ended with ${code} ${details}`);
      resolve();
    });
    if (call.ending === 'silent') one(client, ping).then(() => rpc.cancel());
  });

const work = async (client, calls) => {
  for (let call = calls.shift(); call; call = calls.shift()) {
    await one(client, call, call.ending === 'silent' ? calls.shift() : undefined);
  }
};

const read = (line) => {
  const [number, port, shape, messages, size, ending, expected, ...headers] = line.split('\t');
  const pair = (text) => [text.slice(0, text.indexOf('=')), text.slice(text.indexOf('=') + 1)];
  const [sent, length, code] = [messages, size, expected].map(Number);
  return { number, port, shape, messages: sent, size: length, ending, expected: code, headers: headers.map(pair) };
};

const ready = (client) =>
  new Promise((resolve, reject) => client.waitForReady(Date.now() + 60000, (error) => (error ? reject(error) : resolve())));

const call = async (connections, concurrent) => {
  const options = { 'grpc.use_local_subchannel_pool': 1, 'grpc.keepalive_time_ms': 10000, 'grpc.keepalive_permit_without_calls': 1 };
  const insecure = grpc.credentials.createInsecure();
  const clients = new Map();
  let waiting = [];
  for await (const line of readline.createInterface({ input: process.stdin })) {
    if (line) {
      waiting.push(read(line));
      continue;
    }
    const tasks = [];
    for (const port of new Set(waiting.map((made) => made.port))) {
      const calls = waiting.filter((made) => made.port === port);
      if (!clients.has(port)) {
        clients.set(port, Array.from({ length: connections }, () => new grpc.Client(`127.0.0.1:${port}`, insecure, options)));
        await Promise.all(clients.get(port).map(ready));
      }
      const part = Math.ceil(calls.length / connections);
      clients.get(port).forEach((client, at) => {
        const share = calls.slice(at * part, (at + 1) * part);
        for (let worker = 0; worker < concurrent; worker++) tasks.push(work(client, share));
      });
    }
    await Promise.all(tasks);
    waiting = [];
    console.log('done');
  }
  process.exit();
};

if (process.argv[2] === 'serve') serve();
else call(...process.argv.slice(3).map(Number));
