//! Connections that are TLS: one observation each, with what the handshake shows.

use auditor_wire::segment::{Class, Timestamp};
use auditor_wire::tls::sample_hello;

use crate::talk::{Packet, Talk, lines, observe_open, told};

const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;
const CHANGE: u8 = 20;

/// A record with filler.
fn record(content: u8, length: u16) -> Vec<u8> {
    [&[content, 3, 3][..], &length.to_be_bytes(), &vec![0xab; length.into()]].concat()
}

fn hello() -> Vec<u8> {
    sample_hello("db.example", &["h2"])
}

/// A ServerHello that chooses TLS 1.3 and TLS_AES_128_GCM_SHA256.
fn server_hello() -> Vec<u8> {
    let body = [&[3, 3][..], &[5; 32], &[0], &[0x13, 1], &[0], &[0, 6], &[0, 43, 0, 2, 3, 4]].concat();
    let length = u8::try_from(body.len()).expect("short");
    let message = [&[2, 0, 0, length][..], &body].concat();
    [&[HANDSHAKE, 3, 3, 0, length + 4][..], &message].concat()
}

/// The server's flight as OpenSSL sends it, with or without a CertificateRequest.
fn server_flight(asks: bool) -> Vec<u8> {
    let request = if asks { record(DATA, 105) } else { Vec::new() };
    [
        server_hello(),
        record(CHANGE, 1),
        record(DATA, 23),
        request,
        record(DATA, 916),
        record(DATA, 95),
        record(DATA, 53),
    ]
    .concat()
}

/// A client's certificate, its proof, and Finished.
fn client_flight() -> Vec<u8> {
    [record(CHANGE, 1), record(DATA, 899), record(DATA, 96), record(DATA, 53)].concat()
}

const MUTUAL: &str = "Destination 10.0.0.1:51234 -> 10.0.0.2:8080: Tls db.example [\"h2\"] presented yes";
const BARE: &str = "Destination 10.0.0.1:51234 -> 10.0.0.2:8080: Tls db.example [\"h2\"] none yes";
const OPEN: &str = "Destination 10.0.0.1:51234 -> 10.0.0.2:8080: Tls db.example [\"h2\"] undetermined unknown";

pub(crate) fn mutual(talk: &mut Talk) -> Vec<Packet> {
    [
        talk.by_client(hello()),
        talk.by_server(server_flight(true)),
        talk.by_client(client_flight()),
        talk.by_server([record(DATA, 730), record(DATA, 730)].concat()),
    ]
    .concat()
}

#[test]
fn a_client_that_gives_a_certificate_is_told_of_as_soon_as_the_server_goes_on() {
    let mut talk = Talk::captured();
    let (seen, _) = observe_open(&mutual(&mut talk));
    assert_eq!(lines(&seen), [MUTUAL]);
}

#[test]
fn a_client_that_was_not_asked_gives_none() {
    let mut talk = Talk::captured();
    let packets = [
        talk.by_client(hello()),
        talk.by_server(server_flight(false)),
        talk.by_client([record(CHANGE, 1), record(DATA, 53)].concat()),
        talk.by_server(record(DATA, 250)),
        talk.close(),
    ]
    .concat();
    assert_eq!(told(&packets), [BARE]);
}

#[test]
fn both_ends_are_one_connection_whatever_the_segments() {
    for size in [1, 5, 7, 500, 5000] {
        let mut talk = Talk::live(Some(1), Some(2));
        let mut packets = Vec::new();
        let turns = [hello(), server_flight(true), client_flight(), record(DATA, 730)];
        for (turn, bytes) in turns.iter().enumerate() {
            for part in bytes.chunks(size) {
                let sent = if turn % 2 == 0 { talk.by_client(part) } else { talk.by_server(part) };
                packets.extend(sent.into_iter().map(|packet| Packet { class: Class::Tls, ..packet }));
            }
        }
        packets.extend(talk.close());
        assert_eq!(told(&packets), [MUTUAL], "parts of {size} bytes");
    }
}

/// What the kernel makes of a segment whose bytes it does not copy any more: the headers that begin in it.
fn headers(packets: Vec<Packet>) -> Vec<Packet> {
    let followed = |packet: Packet| {
        let mut found = Vec::new();
        let mut at = 0;
        while let Some(header) = packet.payload.get(at..at + 5) {
            let offset = u32::try_from(at).expect("a short segment");
            let sequence = packet.sequence.wrapping_add(offset);
            let payload = header.to_vec();
            at += 5 + usize::from(u16::from_be_bytes([header[3], header[4]]));
            found.push(Packet { sequence, length: 5, payload, class: Class::TlsHeader, ..packet.clone() });
        }
        found
    };
    packets.into_iter().flat_map(followed).collect()
}

#[test]
fn headers_alone_tell_as_much() {
    let mut talk = Talk::live(Some(1), Some(2));
    let packets = [
        talk.by_client(hello()),
        talk.by_server(server_flight(true)),
        headers(talk.by_client(client_flight())),
        headers(talk.by_server(record(DATA, 730))),
        talk.close(),
    ]
    .concat();
    assert_eq!(told(&packets), [MUTUAL]);
}

#[test]
fn what_was_lost_is_not_guessed() {
    let mut talk = Talk::live(None, Some(2));
    let mut packets = [talk.by_client(hello()), talk.by_server(server_flight(true))].concat();
    talk.by_client(client_flight());
    packets.extend(talk.by_client(record(DATA, 53)).into_iter().map(Packet::lost_before));
    packets.extend([talk.by_server(record(DATA, 730)), talk.close()].concat());
    let told = told(&packets);
    assert!(told.len() == 1 && told[0].contains("undetermined"), "{told:?}");
}

#[test]
fn a_handshake_that_hangs_is_told_of_in_the_end() {
    let mut talk = Talk::captured();
    let (mut seen, mut tracker) =
        observe_open(&[talk.by_client(hello()), talk.by_server(server_flight(true))].concat());
    for second in 1..=9 {
        tracker.advance(Timestamp(talk.time + second * 1_000_000_000), &mut |observation| seen.push(observation));
    }
    assert!(seen.is_empty(), "{:?}", lines(&seen));
    for second in 10..14 {
        tracker.advance(Timestamp(talk.time + second * 1_000_000_000), &mut |observation| seen.push(observation));
    }
    assert_eq!(lines(&seen), [OPEN]);
    assert_eq!(tracker.tracked().buffered_bytes, 0);
}

#[test]
fn what_comes_before_tls_is_passed_over() {
    let proxy = b"PROXY TCP4 192.0.2.1 10.0.0.2 51234 8080\r\n".to_vec();
    let mut second = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    second.extend([192, 0, 2, 1, 10, 0, 0, 2, 0xc8, 0x22, 0x1f, 0x90]);
    for prelude in [proxy, second] {
        for apart in [true, false] {
            let mut talk = Talk::captured();
            let begin = [prelude.clone(), hello()];
            let begin: Vec<Packet> = if apart {
                begin.iter().flat_map(|part| talk.by_client(part)).collect()
            } else {
                talk.by_client(begin.concat())
            };
            let rest = mutual(&mut talk).split_off(1);
            assert_eq!(told(&[begin, rest].concat()).len(), 1);
        }
        let mut talk = Talk::captured();
        let call = [prelude, b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n".to_vec()].concat();
        let packets = [talk.by_client(call), talk.by_server("HTTP/1.1 204 No Content\r\n\r\n")].concat();
        assert_eq!(told(&packets), ["Destination GET h /a -> 204"]);
    }
    let mut talk = Talk::captured();
    let asked = [talk.by_client([0, 0, 0, 8, 4, 210, 22, 47]), talk.by_server("S")].concat();
    assert_eq!(told(&[asked, mutual(&mut talk)].concat()), [MUTUAL]);
}

#[test]
fn a_connection_in_its_middle_is_known_for_tls_and_no_more() {
    let mut talk = Talk { fresh: false, ..Talk::live(None, Some(2)) };
    let tls = |packets: Vec<Packet>| packets.into_iter().map(|packet| Packet { class: Class::Tls, ..packet });
    let mut packets: Vec<Packet> = tls(talk.by_client(record(DATA, 600))).collect();
    packets.extend(tls(talk.by_server(record(DATA, 700))));
    packets.extend(talk.close());
    assert_eq!(told(&packets), ["Destination 10.0.0.1:51234 -> 10.0.0.2:8080: Tls - [] undetermined unknown"]);
}

/// A reset by the client, as its socket sends it.
fn reset(talk: &mut Talk) -> Vec<Packet> {
    talk.client_ends().into_iter().map(|packet| Packet { fin: false, rst: true, ..packet }).collect()
}

#[test]
fn a_reset_after_a_loss_does_not_say_that_the_client_was_refused() {
    let mut talk = Talk::live(None, Some(2));
    let mut packets = talk.by_client(hello());
    // All of the server's flight was lost, and the client's.
    talk.by_server(server_flight(true));
    talk.by_client(client_flight());
    packets.extend(reset(&mut talk).into_iter().map(Packet::lost_before));
    assert_eq!(told(&packets), [OPEN]);
    let mut talk = Talk::live(None, Some(2));
    let mut packets = [talk.by_client(hello()), talk.by_server(server_flight(true))].concat();
    talk.by_client(client_flight());
    packets.extend(reset(&mut talk).into_iter().map(Packet::lost_before));
    assert_eq!(told(&packets), [OPEN]);
}

#[test]
fn a_reset_of_a_closed_socket_does_not_change_where_the_connection_was() {
    let mut talk = Talk::live(None, Some(2));
    let mut packets = [talk.by_client(hello()), talk.by_server(server_flight(true))].concat();
    let mut last: Vec<Packet> =
        talk.server_ends().into_iter().map(|packet| Packet { fin: false, rst: true, ..packet }).collect();
    last.iter_mut().for_each(|packet| packet.endpoints.local.set_port(0));
    packets.extend(last);
    let told = told(&packets);
    assert!(told.len() == 1 && told[0].contains("-> 10.0.0.2:8080: Tls"), "{told:?}");
}
