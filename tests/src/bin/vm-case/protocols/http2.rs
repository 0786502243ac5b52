//! HTTP/2 by hand: several streams on one connection, with and without credential, one of them gRPC; and calls between bodies.

use std::{
    collections::HashMap,
    io::{BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
};

use anyhow::{Context as _, Result, ensure};
use auditor_wire::http2::{
    frame,
    frame::{DATA, END_HEADERS, END_STREAM, HEADERS, PREFACE},
};
use serde_json::{Value, json};

use super::{Ends, path};

/// Kinds of frames and a flag (RFC 9113 section 6).
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const ACKNOWLEDGED: u8 = 1;
/// A window that nobody fills, beyond the one that is there.
const WINDOW: u32 = 1 << 28;
/// Bytes of a larger body, in each direction: several writes and many frames.
const BODY: usize = 200_000;
/// The longest payload of DATA that every peer takes.
const PIECE: usize = 16_384;

/// How much is read at once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reads {
    /// A frame's header, then its payload.
    Frames,
    /// All that is there.
    Everything,
}

/// What a call carries.
#[derive(Clone, Copy)]
enum Carries {
    Nothing,
    Token,
    Grpc,
}

impl Carries {
    const ALL: [Self; 3] = [Self::Nothing, Self::Token, Self::Grpc];

    fn expected(self) -> Value {
        let token = json!([{"kind": "bearer-opaque"}]);
        let (protocol, verdict, credentials) = match self {
            Self::Nothing => ("http/2", "unauthenticated", json!([])),
            Self::Token => ("http/2", "authenticated", token),
            Self::Grpc => ("grpc", "authenticated", token),
        };
        let mut expected = json!({
            "protocol": protocol, "verdict": verdict, "outcome": "accepted", "response": {"status": 200},
            "credentials": credentials,
        });
        if matches!(self, Self::Grpc) {
            expected["response"]["grpc_status"] = json!(0);
        }
        expected
    }
}

/// What the other end sends.
struct Frames(BufReader<TcpStream>);

/// A frame.
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Frames {
    fn of(stream: &TcpStream, reads: Reads) -> Result<Self> {
        let capacity = if reads == Reads::Frames { 1 } else { 1 << 16 };
        Ok(Self(BufReader::with_capacity(capacity, stream.try_clone()?)))
    }

    fn next(&mut self) -> Result<Frame> {
        let mut header = [0; 9];
        self.0.read_exact(&mut header)?;
        let [a, b, c, kind, flags, stream @ ..] = header;
        let mut payload = vec![0; usize::try_from(u32::from_be_bytes([0, a, b, c]))?];
        self.0.read_exact(&mut payload)?;
        Ok(Frame { kind, flags, stream: u32::from_be_bytes(stream), payload })
    }
}

/// Settings, and room for large bodies: for the connection and, of streams that will be, each.
fn greeting() -> Vec<u8> {
    let initial_window = [&[0, 4][..], &WINDOW.to_be_bytes()].concat();
    [frame(SETTINGS, 0, 0, &initial_window), frame(WINDOW_UPDATE, 0, 0, &WINDOW.to_be_bytes())].concat()
}

/// A field whose name and value stand for themselves.
fn literal(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap_or(0)], text.as_bytes()].concat();
    [vec![0], text(name), text(value)].concat()
}

/// Answers each call once it has come whole: with as many bytes as it brought, or as gRPC does.
pub(super) fn answer(mut stream: TcpStream, reads: Reads) -> Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(&greeting())?;
    let mut frames = Frames::of(&stream, reads)?;
    frames.0.read_exact(&mut [0; PREFACE.len()])?;
    let mut calls: HashMap<u32, (bool, usize)> = HashMap::new();
    loop {
        let Frame { kind, flags, stream: number, payload } = frames.next()?;
        match kind {
            SETTINGS if flags & ACKNOWLEDGED == 0 => stream.write_all(&frame(SETTINGS, ACKNOWLEDGED, 0, &[]))?,
            HEADERS => {
                let grpc = payload.windows(16).any(|window| window == b"application/grpc");
                calls.insert(number, (grpc, 0));
            }
            DATA => calls.entry(number).or_default().1 += payload.len(),
            _ => {}
        }
        if matches!(kind, HEADERS | DATA)
            && flags & END_STREAM != 0
            && let Some((grpc, length)) = calls.remove(&number)
        {
            stream.write_all(&response(number, grpc, length))?;
        }
    }
}

fn response(number: u32, grpc: bool, length: usize) -> Vec<u8> {
    // The eighth field of HPACK's own table is the status 200.
    if grpc {
        let head = [vec![0x88], literal("content-type", "application/grpc")].concat();
        let trailers = literal("grpc-status", "0");
        return [
            frame(HEADERS, END_HEADERS, number, &head),
            frame(DATA, 0, number, &[0; 5]),
            frame(HEADERS, END_HEADERS | END_STREAM, number, &trailers),
        ]
        .concat();
    }
    if length == 0 {
        return frame(HEADERS, END_HEADERS | END_STREAM, number, &[0x88]);
    }
    [frame(HEADERS, END_HEADERS, number, &[0x88]), body(number, length)].concat()
}

/// Frames of DATA that end a stream.
fn body(number: u32, length: usize) -> Vec<u8> {
    let bytes = vec![b'x'; length];
    let pieces = bytes.chunks(PIECE).map(|piece| frame(DATA, 0, number, piece));
    pieces.chain([frame(DATA, END_STREAM, number, &[])]).flatten().collect()
}

fn request(number: u32, path: &str, carries: Carries, length: usize) -> Vec<u8> {
    // POST, http.
    let mut block = [vec![0x83, 0x86], literal(":path", path), literal(":authority", "guest")].concat();
    let credential = literal("authorization", "Bearer opaque-token-4713");
    match carries {
        Carries::Nothing => {}
        Carries::Token => block.extend(credential),
        Carries::Grpc => {
            block.extend(credential);
            block.extend([literal("content-type", "application/grpc"), literal("te", "trailers")].concat());
            let head = frame(HEADERS, END_HEADERS, number, &block);
            return [head, frame(DATA, END_STREAM, number, &[0; 5])].concat();
        }
    }
    if length == 0 {
        return frame(HEADERS, END_HEADERS | END_STREAM, number, &block);
    }
    [frame(HEADERS, END_HEADERS, number, &block), body(number, length)].concat()
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.write_all(&[&PREFACE[..], &greeting()].concat())?;
    Ok(stream)
}

/// Waits until so many streams have ended.
fn ended(frames: &mut Frames, count: usize) -> Result<()> {
    let mut left = count;
    while left > 0 {
        let Frame { kind, flags, .. } = frames.next().context("the HTTP/2 server ended")?;
        ensure!(matches!(kind, DATA | HEADERS | SETTINGS | WINDOW_UPDATE), "a frame of kind {kind}");
        if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
            left -= 1;
        }
    }
    Ok(())
}

/// Three calls at once, several times on one connection.
pub(super) fn call(address: SocketAddr, column: &str, ends: &Ends) -> Result<()> {
    let mut stream = connect(address)?;
    let mut frames = Frames::of(&stream, Reads::Frames)?;
    for round in 0..3 {
        let mut bytes = Vec::new();
        let mut made = Vec::new();
        for (at, carries) in Carries::ALL.into_iter().enumerate() {
            let number = round * Carries::ALL.len() + at;
            let path = path(column, "call", number);
            bytes.extend(request(stream_number(number)?, &path, carries, 0));
            made.push((path, carries));
        }
        stream.write_all(&bytes)?;
        ended(&mut frames, made.len())?;
        for (path, carries) in made {
            ends.say(column, &json!({"request": {"path": path}}), carries.expected())?;
        }
    }
    Ok(())
}

/// Calls with large bodies, there and back, each sent at once with a small call behind it.
pub(super) fn carry(address: SocketAddr, column: &str, ends: &Ends) -> Result<()> {
    let mut stream = connect(address)?;
    let port = stream.local_addr()?.port();
    let mut frames = Frames::of(&stream, Reads::Everything)?;
    for pair in 0..3 {
        let large = (path(column, "large", pair), Carries::Nothing, BODY);
        let small = (path(column, "small", pair), Carries::Token, 0);
        let mut bytes = Vec::new();
        for (number, (path, carries, length)) in (2 * pair..).zip([&large, &small]) {
            bytes.extend(request(stream_number(number)?, path, *carries, *length));
        }
        stream.write_all(&bytes)?;
        ended(&mut frames, 2)?;
        for (path, carries, _) in [large, small] {
            let find = json!({"request": {"path": path}, "source": {"port": port}});
            ends.say(column, &find, carries.expected())?;
        }
    }
    Ok(())
}

/// Clients' streams have odd numbers.
fn stream_number(call: usize) -> Result<u32> {
    Ok(u32::try_from(2 * call + 1)?)
}
