//! Sessions on sockets: which bytes become segments, and of which socket.

use auditor_wire::{
    exchange::{Exchange, Observation, Reporter},
    limits::Limits,
    segment::{Class, Direction, Endpoints, Owner, Segment, SocketId, Timestamp},
    tls::{Evidence, Progress, Proof},
    tracker::Tracker,
};
use proptest::prelude::*;

use super::{
    record::{Data, Event, Keyed, Keys, Link, Peer, Record, Role},
    sessions::Sessions,
};

const CLIENT: SocketId = SocketId(11);
const SERVER: SocketId = SocketId(12);
const RANDOM: [u8; 32] = [0xff; 32];
const REQUEST: &[u8] = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";

fn owner(tgid: u32) -> Owner {
    Owner { tgid, start_ns: 0, comm: *b"name\0\0\0\0\0\0\0\0\0\0\0\0" }
}

fn hello() -> Vec<u8> {
    let mut bytes = vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    bytes.extend(RANDOM);
    bytes
}

/// A packet with a ClientHello at one of the two sockets.
fn packet(socket: SocketId, payload: &[u8]) -> Segment<'_> {
    let (client, server) = ("10.0.0.1:40000".parse().unwrap(), "10.0.0.2:443".parse().unwrap());
    let endpoints = Endpoints { local: client, remote: server };
    let (direction, endpoints) =
        if socket == CLIENT { (Direction::Egress, endpoints) } else { (Direction::Ingress, endpoints.reversed()) };
    Segment {
        time: Timestamp(1000),
        socket,
        direction,
        wire: endpoints,
        endpoints,
        sequence: 1,
        syn: false,
        fin: false,
        rst: false,
        length: 517,
        payload,
        class: Class::Tls,
        fresh: true,
        gap: false,
        complete_source: false,
        passed_over: None,
        repeat: None,
        muted: true,
        owner: (socket == CLIENT).then(|| owner(1)),
        cgroup: Some(3),
        netns: None,
    }
}

fn both() -> Sessions {
    let mut sessions = Sessions::new(16);
    sessions.packet(&packet(CLIENT, &hello()));
    sessions.packet(&packet(SERVER, &hello()));
    sessions
}

fn data(direction: Direction, offset: u32, payload: &'static [u8]) -> Data<'static> {
    let class = match payload.first() {
        Some(b'G') => Class::Request,
        Some(b'H') => Class::Response,
        _ => Class::Continuation,
    };
    let length = u32::try_from(payload.len()).unwrap();
    Data { direction, offset, length, payload, class, gap: false, muted: false, peer: Peer::default() }
}

fn record(role: Option<Role>, tgid: u32, event: Event<'static>) -> Record<'static> {
    Record {
        time_ns: 2000,
        link: Link::Random(RANDOM),
        object: 7,
        born_ns: 9,
        owner: owner(tgid),
        library: 0,
        role,
        event,
    }
}

/// What a system call moved on the client's socket.
fn of_kernel(keys: Keys, tgid: u32, event: Event<'static>) -> Record<'static> {
    Record { link: Link::Kernel(CLIENT, keys), object: 0, library: u32::MAX, ..record(None, tgid, event) }
}

/// What comes of records: socket, direction, sequence number, length.
fn segments(sessions: &mut Sessions, records: &[Record<'_>]) -> Vec<(SocketId, Direction, u32, u32)> {
    let mut out = Vec::new();
    for record in records {
        sessions.record(record, Some(Timestamp(1)), 0, &mut |segment| {
            out.push((segment.socket, segment.direction, segment.sequence, segment.length));
        });
    }
    out
}

fn left_out(sessions: &Sessions) -> Vec<(&'static str, u64)> {
    sessions.left_out().filter(|(_, count)| *count > 0).collect()
}

#[test]
fn both_ends_count_the_same_sequence_numbers() {
    let mut sessions = both();
    let sent =
        segments(&mut sessions, &[record(Some(Role::Client), 1, Event::Data(data(Direction::Egress, 0, REQUEST)))]);
    let came =
        segments(&mut sessions, &[record(Some(Role::Server), 2, Event::Data(data(Direction::Ingress, 0, REQUEST)))]);
    assert_eq!((sent[0].0, came[0].0), (CLIENT.plaintext(), SERVER.plaintext()));
    assert_eq!((sent[0].2, sent[0].3), (came[0].2, came[0].3));
    assert_ne!(sent[0].1, came[0].1);
    assert_eq!(left_out(&sessions), []);
}

#[test]
fn the_role_is_told_by_the_library_the_call_or_the_process() {
    let role = |role, tgid, data| segments(&mut both(), &[record(role, tgid, Event::Data(data))])[0].0;
    let request = data(Direction::Egress, 0, REQUEST);
    assert_eq!(role(Some(Role::Server), 1, data(Direction::Ingress, 0, REQUEST)), SERVER.plaintext());
    assert_eq!(role(None, 2, request), CLIENT.plaintext(), "who sends a request is the client, in whatever process");
    let begun = Data { payload: b"GE", class: Class::Short, length: 2, ..request };
    assert_eq!(role(None, 1, begun), CLIENT.plaintext(), "the process of the ClientHello");
    assert_eq!(role(None, 2, begun), SERVER.plaintext(), "another process");
}

#[test]
fn what_is_not_known_from_its_beginning_is_left_out() {
    let mut sessions = both();
    let mut refused = |record: Record<'_>, attached| {
        sessions.record(&record, attached, 0, &mut |segment| panic!("{segment:?}"));
        left_out(&sessions).last().unwrap().0
    };
    let request = record(Some(Role::Client), 1, Event::Data(data(Direction::Egress, 0, REQUEST)));
    assert_eq!(refused(Record { link: Link::Random([1; 32]), ..request }, Some(Timestamp(1))), "plaintext-unlinked");
    assert_eq!(refused(Record { link: Link::Nothing, ..request }, Some(Timestamp(1))), "plaintext-unlinked");
    assert_eq!(
        refused(Record { link: Link::Socket(SocketId(5)), ..request }, Some(Timestamp(1))),
        "plaintext-unlinked"
    );
    assert_eq!(refused(request, Some(Timestamp(1001))), "plaintext-before-attached");
    assert_eq!(refused(request, None), "plaintext-before-attached");
}

#[test]
fn one_session_a_socket_and_http_alone() {
    let mut sessions = both();
    let request = record(Some(Role::Client), 1, Event::Data(data(Direction::Egress, 0, REQUEST)));
    assert_eq!(segments(&mut sessions, &[request, Record { object: 8, ..request }]).len(), 1);
    assert_eq!(left_out(&sessions), [("plaintext-second-session", 1)]);
    let other = Data { class: Class::Other, payload: b"", ..data(Direction::Ingress, 0, b"") };
    let preface = record(Some(Role::Server), 2, Event::Data(Data { length: 24, ..other }));
    let more = record(Some(Role::Server), 2, Event::Data(data(Direction::Egress, 0, RESPONSE)));
    assert_eq!(segments(&mut sessions, &[preface, more]), []);
    assert_eq!(left_out(&sessions)[1], ("plaintext-not-http1", 2));
}

/// The client's preface, its SETTINGS, and a call by HPACK's fixed table alone: `GET /` of `:scheme` http, stream 1.
const HTTP2_REQUEST: &[u8] =
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x03\x01\x05\0\0\0\x01\x82\x84\x86";
/// The server's SETTINGS, `:status` 204, and then a DATA frame of 1,000 bytes on another stream, of which the header alone is there.
const HTTP2_RESPONSE: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\x01\x01\x05\0\0\0\x01\x89\0\x03\xe8\0\0\0\0\0\x03";
/// What follows the payload: `:status` 404 on stream 3.
const HTTP2_LATER: &[u8] = b"\0\0\x01\x01\x05\0\0\0\x03\x8d";

#[test]
fn streams_inside_tls_are_calls_of_both_ends() {
    let mut sessions = both();
    let mut tracker = Tracker::new(Limits::default());
    let mut calls: Vec<Exchange> = Vec::new();
    let mut take = |observation| {
        if let Observation::Exchange(exchange) = observation {
            calls.push(exchange);
        }
    };
    let asks_again = b"\0\0\x03\x01\x05\0\0\0\x03\x83\x84\x86";
    let http2 =
        |direction, offset, payload| Event::Data(Data { class: Class::Http2, ..data(direction, offset, payload) });
    let [asked, answered] = [HTTP2_REQUEST, HTTP2_RESPONSE].map(|bytes| u32::try_from(bytes.len()).unwrap());
    // A library that does not tell its role: the preface does, and from then on the session is known.
    for record in [
        record(None, 1, http2(Direction::Egress, 0, HTTP2_REQUEST)),
        record(None, 2, http2(Direction::Ingress, 0, HTTP2_REQUEST)),
        record(None, 1, http2(Direction::Egress, asked, asks_again)),
        record(None, 2, http2(Direction::Ingress, asked, asks_again)),
        record(None, 2, http2(Direction::Egress, 0, HTTP2_RESPONSE)),
        record(None, 1, http2(Direction::Ingress, 0, HTTP2_RESPONSE)),
        record(None, 2, http2(Direction::Egress, answered + 1000, HTTP2_LATER)),
        record(None, 1, http2(Direction::Ingress, answered + 1000, HTTP2_LATER)),
    ] {
        sessions.record(&record, Some(Timestamp(1)), 0, &mut |segment| tracker.segment(segment, &mut take));
    }
    tracker.finish(&mut take);
    assert_eq!(left_out(&sessions), []);
    let said: Vec<_> = calls
        .iter()
        .map(|call| (call.reporter, call.unknown, call.response.as_ref().map(|response| response.status)))
        .collect();
    assert_eq!(said, [204, 404].map(|status| (Reporter::Destination, None, Some(status))));
    assert!(calls.iter().all(|call| call.source.socket == Some(CLIENT) && call.destination.socket == Some(SERVER)));
}

#[test]
fn the_server_s_library_proves_and_says_nothing_twice() {
    let mut sessions = both();
    let peer = Peer { presented: Some(true), result: Some(0) };
    let read = Data { peer, ..data(Direction::Ingress, 0, REQUEST) };
    let server = record(Some(Role::Server), 2, Event::Data(read));
    let good = Proof { presented: Some(true), good: Some(true), progress: Progress::Done };
    assert_eq!(sessions.proof(&server), Some((SERVER, good)));
    assert_eq!(sessions.proof(&server), None);
    let client = record(Some(Role::Client), 1, Event::Data(Data { direction: Direction::Egress, ..read }));
    assert_eq!(sessions.proof(&client), None, "a client verifies the server");
}

#[test]
fn what_a_library_tells_in_parts_is_put_together() {
    let (presented, data) = (Some(true), Event::Data(data(Direction::Ingress, 0, REQUEST)));
    let looked_at = Event::Verified(Peer { presented, result: Some(0) });
    let asked = Event::Verified(Peer { presented, result: None });
    let faulty = Peer { presented, result: Some(1) };
    let done = Proof { presented, good: Some(true), progress: Progress::Done };
    let refused = Proof { presented, good: Some(false), progress: Progress::Refused };
    let none = Proof { presented: Some(false), good: None, progress: Progress::Refused };
    let cases: [(&str, &[Event<'_>], Option<Proof>); 9] = [
        ("Go", &[looked_at, data], Some(done)),
        ("Go, under way", &[looked_at], Some(Proof { progress: Progress::UnderWay, ..done })),
        ("Go that does not look", &[asked, data], Some(Proof { good: None, ..done })),
        ("Go that refuses", &[Event::Refused(faulty)], Some(refused)),
        ("GnuTLS", &[looked_at, Event::Handshake(0), data], Some(done)),
        ("GnuTLS, afterwards", &[Event::Handshake(0), looked_at], Some(done)),
        ("GnuTLS that refuses", &[Event::Verified(faulty), Event::Handshake(-43)], Some(refused)),
        ("GnuTLS without", &[Event::Handshake(-112)], Some(none)),
        ("GnuTLS, another error", &[Event::Handshake(-110)], None),
    ];
    for (name, events, expected) in cases {
        let mut sessions = both();
        let told = events.iter().filter_map(|event| sessions.proof(&record(Some(Role::Server), 2, *event))).last();
        assert_eq!(told, expected.map(|proof| (SERVER, proof)), "{name}");
    }
}

#[test]
fn what_is_remembered_is_bounded_and_reused_sockets_begin_anew() {
    let mut sessions = Sessions::new(2);
    for socket in 1..100 {
        let mut bytes = hello();
        bytes[11] = u8::try_from(socket).unwrap();
        sessions.packet(&packet(SocketId(socket), &bytes));
    }
    let at = |socket: u8| {
        let mut random = RANDOM;
        random[0] = socket;
        Record { link: Link::Random(random), ..record(None, 9, Event::Data(data(Direction::Ingress, 0, REQUEST))) }
    };
    assert_eq!(segments(&mut sessions, &[at(97)]), []);
    assert_eq!(segments(&mut sessions, &[at(98), at(99)]).len(), 2);
    // The same socket with another ClientHello is another connection.
    let mut again = hello();
    again[11] = 1;
    sessions.packet(&packet(SocketId(99), &again));
    assert_eq!(segments(&mut sessions, &[at(99)]), []);
    assert_eq!(segments(&mut sessions, &[at(1)]).len(), 1);
}

#[test]
fn the_tracker_makes_one_call_of_both_ends() {
    let mut sessions = both();
    let mut tracker = Tracker::new(Limits::default());
    let mut calls: Vec<Exchange> = Vec::new();
    let mut take = |observation| {
        if let Observation::Exchange(exchange) = observation {
            calls.push(exchange);
        }
    };
    let written = [u32::try_from(REQUEST.len()).unwrap(), u32::try_from(RESPONSE.len()).unwrap()];
    // The library tells of the connection that the packets show.
    tracker.segment(&packet(SERVER, &hello()), &mut take);
    tracker.proof(SERVER, Proof { presented: Some(true), good: Some(true), progress: Progress::Done });
    for record in [
        record(Some(Role::Client), 1, Event::Data(data(Direction::Egress, 0, REQUEST))),
        record(Some(Role::Server), 2, Event::Data(data(Direction::Ingress, 0, REQUEST))),
        record(Some(Role::Server), 2, Event::Data(data(Direction::Egress, 0, RESPONSE))),
        record(Some(Role::Client), 1, Event::Data(data(Direction::Ingress, 0, RESPONSE))),
        record(Some(Role::Client), 1, Event::End(written[0], written[1])),
        record(Some(Role::Server), 2, Event::End(written[1], written[0])),
    ] {
        sessions.record(&record, Some(Timestamp(1)), 0, &mut |segment| tracker.segment(segment, &mut take));
    }
    tracker.finish(&mut take);
    let [call] = &calls[..] else { panic!("{calls:?}") };
    assert_eq!(call.reporter, Reporter::Destination);
    assert_eq!(
        call.tls.as_ref().map(|facts| (facts.client.evidence, facts.verified)),
        Some((Evidence::Proven, Some(true)))
    );
    assert_eq!(call.unknown, None);
    assert_eq!(call.response.as_ref().map(|response| response.status), Some(204));
    assert_eq!((call.source.socket, call.destination.socket), (Some(CLIENT), Some(SERVER)));
    assert_eq!((call.source.owner, call.destination.owner), (Some(owner(1)), Some(owner(2))));
}

#[test]
fn the_end_of_a_connection_ends_its_session() {
    let mut sessions = both();
    let request = record(Some(Role::Client), 1, Event::Data(data(Direction::Egress, 0, REQUEST)));
    assert_eq!(segments(&mut sessions, &[request]).len(), 1);
    sessions.packet(&Segment { rst: true, ..packet(CLIENT, b"") });
    let mut ends = 0;
    sessions.advance(Timestamp(1000), &mut |_| ends += 1);
    assert_eq!(ends, 0, "it may still be read");
    sessions.advance(Timestamp(3_000_000_000), &mut |segment| ends += u32::from(segment.fin));
    assert_eq!(ends, 2);
}

proptest! {
    /// However records come, sequence numbers follow from offsets, and no segment is of a socket's own identity.
    #[test]
    fn any_records_are_taken(events in proptest::collection::vec((any::<bool>(), any::<bool>(), any::<u32>(), 0_u8..4), 0..40)) {
        let mut sessions = both();
        for (client, egress, offset, what) in events {
            let direction = if egress { Direction::Egress } else { Direction::Ingress };
            let event = match what {
                0 => Event::End(offset, offset),
                1 => Event::Data(data(direction, offset, REQUEST)),
                2 => Event::Data(data(direction, offset, RESPONSE)),
                _ => Event::Data(data(direction, offset, b"x")),
            };
            let role = if client { Role::Client } else { Role::Server };
            let record = record(Some(role), 1 + u32::from(client), event);
            sessions.record(&record, Some(Timestamp(1)), 0, &mut |segment| {
                assert!(segment.socket.is_plaintext());
                if segment.length > 0 {
                    assert_eq!(segment.sequence, u32::MAX.wrapping_add(offset));
                }
            });
        }
    }
}

#[test]
fn kernel_tls_is_followed_where_the_kernel_has_the_keys_of_all_requests() {
    use Keyed::{FromBeginning, Late, Never};
    let asked = Event::Data(data(Direction::Egress, 0, REQUEST));
    let cases = [
        (FromBeginning, FromBeginning, true),
        (FromBeginning, Late, true),
        (FromBeginning, Never, true),
        (Late, FromBeginning, false),
        (Never, FromBeginning, false),
    ];
    for (egress, ingress, followed) in cases {
        let mut sessions = both();
        let mut count = 0;
        // No library was attached to.
        sessions.record(&of_kernel(Keys { egress, ingress }, 1, asked), None, 0, &mut |_| count += 1);
        assert_eq!(count, usize::from(followed), "{egress:?} {ingress:?}");
        let expected = if followed { vec![] } else { vec![("plaintext-without-keys", 1)] };
        assert_eq!(left_out(&sessions), expected, "{egress:?} {ingress:?}");
    }
}

#[test]
fn a_library_and_the_kernel_do_not_both_tell_of_a_socket() {
    let keys = Keys { egress: Keyed::FromBeginning, ingress: Keyed::FromBeginning };
    let asked = Event::Data(data(Direction::Egress, 0, REQUEST));
    let by_library = record(Some(Role::Client), 1, asked);
    // Another process may go on with the socket.
    let by_kernel = [of_kernel(keys, 1, asked), of_kernel(keys, 3, asked)];
    let mut sessions = both();
    assert_eq!(segments(&mut sessions, &[by_library, by_kernel[0]]).len(), 1);
    assert_eq!(left_out(&sessions), [("plaintext-second-session", 1)]);
    let mut sessions = both();
    assert_eq!(segments(&mut sessions, &[by_kernel[0], by_kernel[1], by_library]).len(), 2);
    assert_eq!(left_out(&sessions), [("plaintext-second-session", 1)]);
}

const SENT_ONLY: Keys = Keys { egress: Keyed::FromBeginning, ingress: Keyed::Never };
const BOTH: Keys = Keys { egress: Keyed::FromBeginning, ingress: Keyed::FromBeginning };

/// Sessions and what is made of their segments.
struct Observer {
    sessions: Sessions,
    tracker: Tracker,
    /// Whether there was a response, and whether it is known that there was none.
    exchanges: Vec<(bool, bool)>,
}

impl Observer {
    fn new() -> Self {
        Self { sessions: both(), tracker: Tracker::new(Limits::default()), exchanges: Vec::new() }
    }

    fn record(&mut self, record: &Record<'_>) {
        let Self { sessions, tracker, exchanges } = self;
        let mut observe = observe(exchanges);
        sessions.record(record, Some(Timestamp(0)), 0, &mut |segment| tracker.segment(segment, &mut observe));
    }

    fn advance(&mut self, seconds: u64) {
        let Self { sessions, tracker, exchanges } = self;
        let mut observe = observe(exchanges);
        let now = Timestamp(seconds * 1_000_000_000);
        sessions.advance(now, &mut |segment| tracker.segment(segment, &mut observe));
        tracker.advance(now, &mut observe);
    }

    fn end(mut self) -> Vec<(bool, bool)> {
        self.tracker.finish(&mut observe(&mut self.exchanges));
        self.exchanges
    }
}

fn observe(exchanges: &mut Vec<(bool, bool)>) -> impl FnMut(Observation) {
    |observation| {
        if let Observation::Exchange(exchange) = observation {
            exchanges.push((exchange.response.is_some(), exchange.unknown.is_none()));
        }
    }
}

/// A request of the client's at this offset, at this second.
fn asked(keys: Keys, offset: u32, second: u64) -> Record<'static> {
    let event = Event::Data(data(Direction::Egress, offset, REQUEST));
    Record { time_ns: second * 1_000_000_000, ..of_kernel(keys, 1, event) }
}

#[test]
fn of_answers_that_the_kernel_does_not_decrypt_nothing_is_said() {
    for (keys, known) in [(SENT_ONLY, false), (BOTH, true)] {
        let mut observer = Observer::new();
        observer.record(&asked(keys, 0, 1));
        observer.sessions.packet(&Segment { fin: true, ..packet(CLIENT, b"") });
        observer.advance(5);
        assert_eq!(observer.end(), [(false, known)], "{keys:?}");
    }
}

#[test]
fn calls_whose_answers_are_not_seen_are_told_of_within_seconds() {
    let length = u32::try_from(REQUEST.len()).unwrap();
    let mut observer = Observer::new();
    observer.record(&asked(SENT_ONLY, 0, 1));
    observer.record(&asked(SENT_ONLY, length, 2));
    observer.advance(2);
    assert_eq!(observer.exchanges, []);
    observer.advance(3);
    assert_eq!(observer.exchanges, [(false, false); 2]);
    // The connection goes on, and ends.
    observer.record(&asked(SENT_ONLY, 2 * length, 10));
    observer.advance(12);
    assert_eq!(observer.exchanges, [(false, false); 3]);
    observer.record(&asked(SENT_ONLY, 3 * length, 20));
    let end = Event::End(4 * length, 0);
    observer.record(&Record { time_ns: 20_500_000_000, ..of_kernel(SENT_ONLY, 1, end) });
    assert_eq!(observer.exchanges, [(false, false); 4]);
    observer.advance(30);
    assert_eq!(observer.end(), [(false, false); 4]);
}

#[test]
fn where_the_other_end_shows_the_answers_they_are_waited_for() {
    let mut observer = Observer::new();
    observer.record(&asked(SENT_ONLY, 0, 1));
    let served = |second: u64, data| {
        let read = record(Some(Role::Server), 2, Event::Data(data));
        Record { time_ns: second * 1_000_000_000, object: 8, ..read }
    };
    observer.record(&served(1, data(Direction::Ingress, 0, REQUEST)));
    observer.advance(10);
    assert_eq!(observer.exchanges, []);
    observer.record(&served(11, data(Direction::Egress, 0, RESPONSE)));
    observer.advance(12);
    assert_eq!(observer.exchanges, [(true, true)]);
    // The client's end has nothing to add.
    observer.sessions.packet(&Segment { fin: true, time: Timestamp(12_000_000_000), ..packet(CLIENT, b"") });
    observer.advance(20);
    assert_eq!(observer.end(), [(true, true)]);
}
