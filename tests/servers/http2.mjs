// HTTP/2 in clear. Prints two ports: of a server that keeps all rules, and of one that HTTP/1.1 is left for.
//
// A call says in its headers what it is to be answered: x-status, x-grpc-status, x-trailers-only, x-silent.
import http2 from 'node:http2';
import net from 'node:net';

const server = http2.createServer({ maxSessionMemory: 100, settings: { maxConcurrentStreams: 1000 } });
server.on('stream', (stream, headers) => {
  stream.on('error', () => {});
  stream.resume();
  if (headers['x-silent']) return;
  const code = headers['x-grpc-status'];
  if (code === undefined) {
    stream.respond({ ':status': Number(headers['x-status'] ?? 200) });
    stream.end('x'.repeat(Number(headers['x-length'] ?? 10)));
  } else if (headers['x-trailers-only']) {
    stream.respond({ ':status': 200, 'content-type': 'application/grpc', 'grpc-status': code }, { endStream: true });
  } else {
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': code }));
    stream.end(Buffer.alloc(Number(headers['x-length'] ?? 10)));
  }
});

// As few frames as the upgrade takes: every call is answered with 200 and no body.
const frame = (type, flags, stream, payload) => {
  const header = Buffer.alloc(9);
  header.writeUIntBE(payload.length, 0, 3);
  header.writeUInt8(type, 3);
  header.writeUInt8(flags, 4);
  header.writeUInt32BE(stream, 5);
  return Buffer.concat([header, payload]);
};
const [HEADERS, SETTINGS, END] = [1, 4, 5];
const answer = (stream) => frame(HEADERS, END, stream, Buffer.from([0x88]));
const upgrading = net.createServer((socket) => {
  let held = Buffer.alloc(0);
  let upgraded = false;
  socket.on('error', () => {});
  socket.on('data', (data) => {
    held = Buffer.concat([held, data]);
    if (!upgraded && held.includes('\r\n\r\n')) {
      upgraded = true;
      held = held.subarray(held.indexOf('\r\n\r\n') + 4);
      const granted = 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n';
      socket.write(Buffer.concat([Buffer.from(granted), frame(SETTINGS, 0, 0, Buffer.alloc(0)), answer(1)]));
    }
    if (upgraded && held.subarray(0, 3).toString() === 'PRI') held = held.subarray(24);
    while (upgraded && held.length >= 9 && held.length >= 9 + held.readUIntBE(0, 3)) {
      if (held[3] === HEADERS) socket.write(answer(held.readUInt32BE(5)));
      if (held[3] === SETTINGS && held[4] === 0) socket.write(frame(SETTINGS, 1, 0, Buffer.alloc(0)));
      held = held.subarray(9 + held.readUIntBE(0, 3));
    }
  });
});

server.listen(0, '127.0.0.1', () =>
  upgrading.listen(0, '127.0.0.1', () => console.log(`${server.address().port} ${upgrading.address().port}`)));
