//! What is sent over a connection.

use std::fmt;

use auditor_tests::random::Random;

/// Bytes of a record header (RFC 8446 section 5.1).
pub(crate) const HEADER: usize = 5;

/// What one end sends at once.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) by_server: bool,
    pub(crate) bytes: Vec<u8>,
}

/// One direction.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    /// All of its bytes.
    pub(crate) bytes: Vec<u8>,
    /// Where the record headers begin.
    pub(crate) headers: Vec<usize>,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Talk {
    /// Of the client, of the server.
    pub(crate) streams: [Stream; 2],
    pub(crate) writes: Vec<Write>,
    pub(crate) server_ends_first: bool,
    prelude: &'static str,
    /// The prelude ends within the client's first write: where its TLS begins is not captured as such.
    pub(crate) joined: bool,
}

/// What is said before the handshake: by whom (the server: true), and what.
type Prelude = (&'static str, &'static [(bool, &'static [u8])]);

const PRELUDES: [Prelude; 5] = [
    ("none", &[]),
    ("PROXY, text", &[(false, b"PROXY TCP4 10.0.0.1 10.0.0.2 40000 443\r\n")]),
    ("PROXY, binary", &[(false, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x0a\0\0\x01\x0a\0\0\x02\x9c\x40\x01\xbb")]),
    ("PostgreSQL", &[(false, b"\0\0\0\x08\x04\xd2\x16\x2f"), (true, b"S")]),
    (
        "MySQL",
        &[(true, b"\x4a\0\0\0\x0a8.0.36\0greeting of a server"), (false, b"\x20\0\0\x01\x05\xae\xff\x19\0\0\0\x01")],
    ),
];

/// A record.
pub(crate) fn record(content: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).expect("records are short").to_be_bytes();
    [&[content, 3, 3], &length[..], body].concat()
}

impl Talk {
    /// Any connection.
    pub(crate) fn new(random: &mut Random) -> Self {
        let (prelude, said) = if random.below(2) == 0 { PRELUDES[0] } else { PRELUDES[random.index(PRELUDES.len())] };
        let joined = prelude.starts_with("PROXY") && random.below(3) == 0;
        let mut talk = Self {
            streams: [Stream::default(), Stream::default()],
            writes: Vec::new(),
            server_ends_first: random.below(2) == 0,
            prelude,
            joined,
        };
        for (by_server, bytes) in said {
            talk.write(*by_server, bytes.to_vec());
        }
        let mut left = [records(random, 1), records(random, 2)];
        let mut sent = [0, 0];
        let sizes = [[1, 1], [1, 7], [1, 200], [500, 5000], [8000, 30_000]];
        let mut size = || sizes[random.index(sizes.len())];
        let mut range = [size(), size()];
        // Behind a prelude the handshake is only recognised by a whole record header.
        if !said.is_empty() {
            range[0][0] = range[0][0].max(5);
            range[0][1] = range[0][1].max(7);
        }
        while sent[0] < left[0].bytes.len() || sent[1] < left[1].bytes.len() {
            let server = sent[1] < left[1].bytes.len()
                && sent[0] > 0
                && (random.below(2) == 0 || sent[0] >= left[0].bytes.len());
            let side = usize::from(server);
            let rest = left[side].bytes.len() - sent[side];
            let [low, high] = range[side];
            let count = (low + random.index(high - low + 1)).min(rest);
            // A stream of single bytes goes on in larger pieces, or a round would take seconds.
            if sent[side] > 400 && high < 200 {
                range[side] = [200, 5000];
            }
            let bytes = left[side].bytes[sent[side]..sent[side] + count].to_vec();
            sent[side] += count;
            talk.write(server, bytes);
        }
        for (stream, records) in talk.streams.iter_mut().zip(&mut left) {
            let prelude = stream.bytes.len() - records.bytes.len();
            stream.headers = records.headers.iter().map(|at| at + prelude).collect();
        }
        if joined {
            let second = talk.writes.remove(1);
            talk.writes[0].bytes.extend(second.bytes);
        }
        talk
    }

    fn write(&mut self, by_server: bool, bytes: Vec<u8>) {
        self.streams[usize::from(by_server)].bytes.extend(&bytes);
        self.writes.push(Write { by_server, bytes });
    }
}

/// Records of one direction, the first a handshake with a message of this type.
fn records(random: &mut Random, message: u8) -> Stream {
    let most = [4, 24, 60][random.index(3)];
    let count = 1 + random.index(most);
    let longest = [40, 700, 16_384][random.index(3)];
    let mut stream = Stream::default();
    for number in 0..count {
        let length = if number == 0 { 40 + random.index(1800) } else { random.index(longest + 1) };
        let mut body: Vec<u8> = (0..length).map(|_| random.byte()).collect();
        let content = if number == 0 { 22 } else { [20, 21, 22, 23][random.index(4)] };
        if number == 0 {
            body[0] = message;
        }
        stream.headers.push(stream.bytes.len());
        stream.bytes.extend(record(content, &body));
    }
    stream
}

impl fmt::Display for Talk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [client, server] = &self.streams;
        let joined = if self.joined { ", joined" } else { "" };
        let (prelude, writes) = (self.prelude, self.writes.len());
        let (to, from) = (client.headers.len(), server.headers.len());
        write!(f, "prelude {prelude}{joined}, {to} records to and {from} from the server in {writes} writes")
    }
}
