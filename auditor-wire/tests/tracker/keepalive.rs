//! HTTP/2 connections that are kept for minutes and hours without a call: what both ends' tables hold holds on, for as long as the
//! connection is remembered; then it is one that began before.

use auditor_wire::exchange::{Exchange, Observation};
use auditor_wire::http2::frame;
use auditor_wire::limits::Limits;
use auditor_wire::segment::{SocketId, Timestamp};
use auditor_wire::tls::ClientCertificate;
use auditor_wire::tracker::Tracker;

use crate::http2::{block, data, exchange, get, grpc, indexed, preface, status};
use crate::secure::mutual;
use crate::talk::{Packet, Talk, lines};

const SECOND: u64 = 1_000_000_000;
const HOUR: u64 = 3600 * SECOND;

/// Plays a conversation, a round behind the other, with idle time between them in which the clock goes on by itself.
struct Play {
    tracker: Tracker,
    talk: Talk,
    seen: Vec<Observation>,
}

impl Play {
    fn begin(limits: Limits) -> Self {
        let mut play = Self { tracker: Tracker::new(limits), talk: Talk::live(Some(1), Some(2)), seen: Vec::new() };
        play.client(&preface());
        play
    }

    fn client(&mut self, bytes: &[u8]) {
        let packets = self.talk.by_client(bytes);
        packets.iter().for_each(|packet| self.tracker.segment(&packet.segment(), &mut |it| self.seen.push(it)));
    }

    fn server(&mut self, bytes: &[u8]) {
        let packets = self.talk.by_server(bytes);
        packets.iter().for_each(|packet| self.tracker.segment(&packet.segment(), &mut |it| self.seen.push(it)));
    }

    /// Time goes on, and the tracker is told every second.
    fn idle(&mut self, time: u64) {
        let until = self.talk.time + time;
        while self.talk.time < until {
            self.talk.time += SECOND;
            self.tracker.advance(Timestamp(self.talk.time), &mut |it| self.seen.push(it));
        }
    }

    fn exchanges(&self) -> Vec<&Exchange> {
        self.seen.iter().map(exchange).collect()
    }

    fn end(&mut self) {
        let Self { tracker, seen, .. } = self;
        tracker.finish(&mut |it| seen.push(it));
    }
}

#[test]
fn what_the_table_holds_holds_over_hours() {
    let mut play = Play::begin(Limits { idle: std::time::Duration::from_secs(24 * 3600), ..Limits::default() });
    for round in 0..8_u32 {
        let stream = 2 * round + 1;
        play.client(&indexed(stream, round == 0));
        play.server(&[status(stream, "200"), data(stream, 10, 1)].concat());
        play.idle(HOUR);
    }
    play.end();
    assert_eq!(lines(&play.seen), ["Destination GET h /i -> 200"; 8]);
    for exchange in play.exchanges() {
        let head = &exchange.request.as_ref().expect("a request").head;
        assert_eq!(head.values("authorization").next(), Some(b"Bearer abc".as_slice()));
    }
}

/// A ping of either end, as gRPC's keep-alive sends it, is enough for a connection to be remembered.
#[test]
fn pings_keep_a_connection_in_mind() {
    let mut play = Play::begin(Limits::default());
    play.client(&indexed(1, true));
    play.server(&status(1, "200"));
    for _ in 0..60 {
        play.idle(300 * SECOND);
        play.client(&frame(6, 0, 0, &[7; 8]));
        play.server(&frame(6, 1, 0, &[7; 8]));
    }
    play.client(&indexed(3, false));
    play.server(&status(3, "403"));
    play.end();
    assert_eq!(lines(&play.seen), ["Destination GET h /i -> 200", "Destination GET h /i -> 403"]);
}

/// A connection that was idle for too long is forgotten, and its socket is still one that the kernel saw from its first byte. What
/// comes is read as of a connection that began before, and a credential that may stand in the table is not said to be missing.
#[test]
fn what_comes_behind_the_idle_limit_is_of_an_older_connection() {
    let mut play = Play::begin(Limits::default());
    play.client(&indexed(1, true));
    play.server(&status(1, "200"));
    play.idle(HOUR);
    assert_eq!(play.tracker.tracked().connections, 0);
    play.client(&indexed(3, false));
    play.server(&status(3, "200"));
    play.client(&get(5, "/literal"));
    play.server(&status(5, "401"));
    play.end();
    let mut told = lines(&play.seen);
    told.sort();
    let expected = ["GET h /i -> 200", "GET h /i -> 200 (hpack-lost)", "GET h /literal -> 401"];
    assert_eq!(told, expected.map(|line| format!("Destination {line}")));
}

/// The client gives the stream up when it has the body, as curl does at the end of a Content-Length: where that comes before the
/// server has sent the status there is none, and the call has that of HTTP; where it comes behind the status nothing changes.
#[test]
fn a_stream_that_is_reset_behind_its_body_has_no_status() {
    let trailers = |stream| frame(frame::HEADERS, 5, stream, &block(&[("grpc-status", "7")]));
    let reset = |stream| frame(frame::RST_STREAM, 0, stream, &[0, 0, 0, 8]);
    let mut play = Play::begin(Limits::default());
    play.client(&[grpc(1), data(1, 3, 1)].concat());
    play.server(&[status(1, "200"), data(1, 300, 0)].concat());
    play.client(&[reset(1), grpc(3), data(3, 3, 1)].concat());
    play.server(&[status(3, "200"), data(3, 300, 0), trailers(3)].concat());
    play.client(&reset(3));
    play.end();
    let codes: Vec<_> =
        play.exchanges().iter().map(|it| it.response.as_ref().map(|it| (it.status, it.grpc_status()))).collect();
    assert_eq!(codes, [Some((200, None)), Some((200, Some(7)))]);
}

/// Of the packets that carry it nothing is captured behind the handshake.
#[test]
fn what_the_handshake_showed_is_known_for_as_long_as_calls_come() {
    let limits = Limits { tls_plaintext: true, ..Limits::default() };
    let mut tracker = Tracker::new(limits);
    let mut seen = Vec::new();
    let mut talk = Talk::live(None, Some(2));
    for packet in mutual(&mut talk) {
        tracker.segment(&packet.segment(), &mut |it| seen.push(it));
    }
    let mut inside = Talk { time: talk.time, ..Talk::live(None, Some(2)) };
    for round in 0..40_u32 {
        inside.time += 300 * SECOND;
        let stream = 2 * round + 1;
        let greeting = if round == 0 { preface() } else { Vec::new() };
        let asks = inside.by_client([greeting, get(stream, "/a")].concat());
        let packets = [asks, inside.by_server(status(stream, "200"))].concat();
        for packet in packets {
            let packet = Packet { socket: SocketId(packet.socket).plaintext().0, ..packet };
            tracker.segment(&packet.segment(), &mut |it| seen.push(it));
        }
    }
    tracker.finish(&mut |it| seen.push(it));
    let calls = seen.iter().filter_map(|it| match it {
        Observation::Exchange(exchange) => exchange.tls.as_ref().map(|facts| facts.client.certificate),
        Observation::Connection(_) => None,
    });
    assert_eq!(calls.collect::<Vec<_>>(), [ClientCertificate::Presented; 40]);
}

/// What is read inside TLS at one end may be told of behind the end of its packets, which know the other end as well.
#[test]
fn a_call_inside_that_one_end_told_late_has_both_processes_and_the_handshake() {
    for (client, server) in [(Some(1), None), (None, Some(2))] {
        let limits = Limits { tls_plaintext: true, ..Limits::default() };
        let mut tracker = Tracker::new(limits);
        let mut seen = Vec::new();
        let mut talk = Talk::live(Some(1), Some(2));
        let mut inside = Talk { time: talk.time, ..Talk::live(client, server) };
        let asked = inside.by_client("GET /late HTTP/1.1\r\nHost: h\r\n\r\n");
        let packets = [mutual(&mut talk), asked, talk.close()].concat();
        let ended = talk.time + 3 * SECOND;
        inside.time = ended;
        for packet in packets.into_iter().chain(inside.close()) {
            let within = packet.payload.starts_with(b"GET") || packet.time > talk.time + SECOND;
            let socket = SocketId(packet.socket);
            let packet = Packet { socket: if within { socket.plaintext().0 } else { socket.0 }, ..packet };
            if packet.time > ended {
                tracker.advance(Timestamp(ended), &mut |it| seen.push(it));
            }
            tracker.segment(&packet.segment(), &mut |it| seen.push(it));
        }
        tracker.finish(&mut |it| seen.push(it));
        let told = |it| if matches!(it, &Observation::Exchange(_)) { Some(exchange(it)) } else { None };
        let calls: Vec<_> = seen.iter().filter_map(told).collect();
        let [call] = calls[..] else { panic!("{calls:?}") };
        let owners = [&call.source, &call.destination].map(|end| end.owner.map(|owner| owner.tgid));
        assert_eq!(owners, [Some(1), Some(2)]);
        assert_eq!(call.tls.as_ref().map(|facts| facts.client.certificate), Some(ClientCertificate::Presented));
    }
}
