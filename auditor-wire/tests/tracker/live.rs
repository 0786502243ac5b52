//! What the kernel tells: heads only, and both ends of a connection when both are on the node.

use auditor_wire::exchange::{Exchange, Observation, Protocol, Reporter};
use auditor_wire::limits::Limits;
use auditor_wire::segment::{Class, Direction, Endpoints, Segment, SocketId, Timestamp};
use auditor_wire::tracker::Tracker;

use crate::talk::{CLIENT, Packet, SERVER, Talk, lines, observe, observe_open, owner, told};

const GET: &str = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

fn exchange(observation: &Observation) -> &Exchange {
    match observation {
        Observation::Exchange(exchange) => exchange,
        Observation::Connection(connection) => panic!("expected an exchange, got {connection:?}"),
    }
}

#[test]
fn both_ends_yield_one_exchange_with_both_owners() {
    let mut talk = Talk::live(Some(11), Some(22));
    let packets = [talk.by_client(GET), talk.by_server(OK)].concat();
    let (seen, tracker) = observe_open(&packets);
    assert_eq!(lines(&seen), ["Destination GET h /a -> 200"]);
    let exchange = exchange(&seen[0]);
    assert_eq!(exchange.source.owner, Some(owner(11)));
    assert_eq!(exchange.destination.owner, Some(owner(22)));
    assert_eq!((exchange.source.socket, exchange.destination.socket), (Some(SocketId(11)), Some(SocketId(22))));
    assert_eq!(
        (exchange.source.address.to_string(), exchange.destination.address.to_string()),
        (CLIENT.into(), SERVER.into())
    );
    assert_eq!(exchange.wire.local.to_string(), CLIENT);
    assert_eq!(exchange.duration.map(|d| d.as_micros()), Some(999));
    assert_eq!((tracker.tracked().twins_total, tracker.tracked().held), (1, 0));
}

#[test]
fn each_call_of_a_shared_connection_comes_once() {
    let mut talk = Talk::live(Some(11), Some(22));
    let mut packets = Vec::new();
    for _ in 0..20 {
        packets.extend(talk.by_client([GET, GET, GET].concat()));
        packets.extend(talk.by_server([OK, OK].concat()));
        packets.extend(talk.by_server(OK));
    }
    packets.extend(talk.close());
    assert_eq!(told(&packets), ["Destination GET h /a -> 200"; 60]);
}

#[test]
fn what_one_end_sends_at_once_and_the_other_reads_and_answers_in_pieces_comes_once() {
    let mut talk = Talk::live(Some(11), Some(22));
    let [sent, whole] = talk.by_client([GET, GET, GET].concat()).try_into().expect("one packet at each end");
    let part = |from: usize, to: usize| {
        let mut part = whole.clone();
        part.payload = whole.payload[from..to].to_vec();
        part.sequence = whole.sequence.wrapping_add(u32::try_from(from).unwrap());
        part.length = u32::try_from(to - from).unwrap();
        part
    };
    let mut packets = vec![sent, part(0, 2 * GET.len())];
    let [answered, late] = talk.by_server([OK, OK].concat()).try_into().expect("one packet at each end");
    packets.extend([answered, part(2 * GET.len(), 3 * GET.len()), late]);
    packets.extend(talk.by_server(OK));
    packets.extend(talk.close());
    assert_eq!(told(&packets), ["Destination GET h /a -> 200"; 3]);
}

#[test]
fn one_end_alone_reports_at_once() {
    let mut talk = Talk::live(Some(11), None);
    let (seen, _) = observe_open(&[talk.by_client(GET), talk.by_server(OK)].concat());
    assert_eq!(lines(&seen), ["Source GET h /a -> 200"]);
    assert_eq!(exchange(&seen[0]).source.owner, Some(owner(11)));
    assert_eq!(exchange(&seen[0]).destination.owner, None);
    let mut talk = Talk::live(None, Some(22));
    let (seen, _) = observe_open(&[talk.by_client(GET), talk.by_server(OK)].concat());
    assert_eq!(lines(&seen), ["Destination GET h /a -> 200"]);
    assert_eq!(exchange(&seen[0]).destination.owner, Some(owner(22)));
}

#[test]
fn a_request_carries_the_owner_that_sent_it() {
    let mut talk = Talk::live(Some(11), Some(22));
    let mut packets = [talk.by_client(GET), talk.by_server(OK), talk.by_client(GET)].concat();
    packets[4].owner = Some(owner(99));
    let mut late = talk.by_server(OK);
    late[0].owner = Some(owner(77));
    packets.extend(late);
    let seen = observe(&packets);
    assert_eq!(lines(&seen).len(), 2);
    assert_eq!(exchange(&seen[1]).source.owner, Some(owner(99)));
    assert_eq!(exchange(&seen[1]).destination.owner, Some(owner(77)));
}

#[test]
fn the_source_reports_what_the_destination_did_not_see_whole() {
    let mut talk = Talk::live(Some(11), Some(22));
    let mut request = talk.by_client(GET);
    request[1] = request[1].clone().cut(20);
    let packets = [request, talk.by_server(OK)].concat();
    let seen = observe(&packets);
    assert_eq!(lines(&seen), ["Source GET h /a -> 200"]);
    assert_eq!(exchange(&seen[0]).destination.owner, Some(owner(22)));
    // The response was lost at the destination.
    let mut talk = Talk::live(Some(11), Some(22));
    let packets: Vec<Packet> = [talk.by_client(GET), talk.by_server(OK).split_off(1), talk.close()].concat();
    assert_eq!(told(&packets), ["Source GET h /a -> 200"]);
}

/// A server that is woken by the first bytes of a connection (`TCP_DEFER_ACCEPT`) has no socket yet when they come.
/// The server's end tells of the request and of the response apart: it does not know that they belong together.
#[test]
fn what_the_destination_saw_in_two_parts_is_one_exchange() {
    for (kept, due) in [(11, "Source"), (22, "Destination")] {
        // Whichever end tells first.
        for turned in [false, true] {
            let mut talk = Talk::live(Some(11), Some(22));
            let mut packets = [talk.by_client(GET), talk.by_server(OK)].concat();
            packets.extend(talk.by_client("GET /b HTTP/1.1\r\nHost: h\r\n"));
            let lost = talk.by_client("Authorization: Bearer x\r\n");
            packets.extend(lost.into_iter().filter(|packet| packet.socket == kept));
            packets.extend(talk.by_client("Accept: */*\r\n\r\n"));
            let mut answer = talk.by_server(OK);
            if turned {
                answer.reverse();
            }
            packets.extend([answer, talk.by_client(GET), talk.by_server(OK), talk.close()].concat());
            let other = "Destination GET h /a -> 200";
            assert_eq!(told(&packets), [other, &format!("{due} GET h /b -> 200"), other], "{kept} {turned}");
        }
    }
}

#[test]
fn a_request_that_came_before_the_servers_socket_is_told_of_by_the_client_once() {
    let mut talk = Talk::live(Some(11), Some(22));
    let mut first = talk.by_client(GET);
    first.truncate(1);
    let calls = [talk.by_server(OK), talk.by_client(GET), talk.by_server(OK), talk.close()].concat();
    let mut packets = [first, calls].concat();
    packets.iter_mut().filter(|packet| packet.socket == 22).for_each(|packet| packet.fresh = false);
    assert_eq!(told(&packets), ["Source GET h /a -> 200", "Destination GET h /a -> 200"]);
    // The client is elsewhere.
    packets.retain(|packet| packet.socket == 22);
    assert_eq!(told(&packets), ["Destination GET h /a -> 200", "Destination ? -> 200 (mid-stream)"]);
}

#[test]
fn a_held_view_comes_when_the_other_end_stays_silent() {
    let mut talk = Talk::live(Some(11), Some(22));
    let packets = [talk.by_client(GET), talk.by_server(OK).split_off(1)].concat();
    let (mut seen, mut tracker) = observe_open(&packets);
    assert_eq!(lines(&seen), [""; 0]);
    assert_eq!(tracker.tracked().held, 1);
    tracker.advance(Timestamp(talk.time + 150_000_000), &mut |observation| seen.push(observation));
    assert_eq!(lines(&seen), [""; 0]);
    tracker.advance(Timestamp(talk.time + 210_000_000), &mut |observation| seen.push(observation));
    assert_eq!(lines(&seen), ["Source GET h /a -> 200"]);
    tracker.finish(&mut |observation| seen.push(observation));
    assert_eq!(lines(&seen), ["Source GET h /a -> 200"]);
    assert_eq!(tracker.tracked().held, 0);
}

/// Calls of one connection that both ends tell alike, `count` of them.
fn calls(talk: &mut Talk, count: usize) -> Vec<Packet> {
    (0..count).flat_map(|_| [talk.by_client(GET), talk.by_server(OK)].concat()).collect()
}

/// The server's end alone goes on, after the client's has said that it is spared.
fn spared(talk: &mut Talk) -> Vec<Packet> {
    let mut last = talk.by_client(GET);
    (last[0], last[1]) = (last[0].clone().cut(0).muting(), last[1].clone());
    talk.sockets.0 = None;
    [last, talk.by_server(OK)].concat()
}

#[test]
fn a_client_whose_server_tells_the_same_need_not_be_captured() {
    let mut talk = Talk::live(Some(11), Some(22));
    let (mut seen, mut tracker) = observe_open(&calls(&mut talk, 7));
    assert_eq!(tracker.spared().count(), 0, "a few calls are not worth it");
    let mut take = |tracker: &mut Tracker, packets: &[Packet]| {
        packets.iter().for_each(|packet| tracker.segment(&packet.segment(), &mut |told| seen.push(told)));
    };
    take(&mut tracker, &calls(&mut talk, 3));
    assert_eq!(tracker.spared().collect::<Vec<_>>(), [SocketId(11)]);
    assert_eq!(tracker.spared().count(), 0, "it is told once");
    // The client's end goes on until the kernel has heard.
    take(&mut tracker, &calls(&mut talk, 3));
    take(&mut tracker, &spared(&mut talk));
    for _ in 0..3 {
        // A third less than the time after which an idle connection is forgotten.
        talk.time += 10 * 60 * 1_000_000_000;
        take(&mut tracker, &calls(&mut talk, 2));
    }
    assert_eq!(tracker.tracked().connections, 2, "the client is known for as long as the server's end");
    assert_eq!(lines(&seen), ["Destination GET h /a -> 200"; 20]);
    for observation in &seen {
        let told = exchange(observation);
        assert_eq!((told.source.owner, told.source.socket), (Some(owner(11)), Some(SocketId(11))));
    }
    let mut late = Vec::new();
    talk.close().iter().for_each(|packet| tracker.segment(&packet.segment(), &mut |told| late.push(told)));
    tracker.advance(Timestamp(talk.time + 10_000_000_000), &mut |told| late.push(told));
    assert_eq!((late.len(), tracker.tracked().connections, tracker.tracked().buffered_bytes), (0, 0, 0));
}

#[test]
fn what_the_server_alone_saw_in_part_comes_at_once() {
    let mut talk = Talk::live(Some(11), Some(22));
    let (mut seen, mut tracker) = observe_open(&calls(&mut talk, 8));
    let mut rest = spared(&mut talk);
    let mut cut = talk.by_client(GET);
    cut[0] = cut[0].clone().cut(20);
    rest.extend([cut, talk.by_server(OK)].concat());
    rest.iter().for_each(|packet| tracker.segment(&packet.segment(), &mut |told| seen.push(told)));
    assert_eq!(lines(&seen[8..]), ["Destination GET h /a -> 200", "Destination GET - /a -> 200 (head-truncated)"]);
    assert_eq!(tracker.tracked().held, 0);
}

#[test]
fn who_did_not_agree_is_not_spared() {
    // Both ends in a capture file are read anyway; an end alone agrees with nobody; nor does one that sees less.
    let mut file = Talk { sockets: (Some(11), Some(22)), ..Talk::captured() };
    assert_eq!(observe_open(&calls(&mut file, 20)).1.spared().count(), 0);
    let mut alone = Talk::live(Some(11), None);
    assert_eq!(observe_open(&calls(&mut alone, 20)).1.spared().count(), 0);
    let mut talk = Talk::live(Some(11), Some(22));
    let mut packets = Vec::new();
    for _ in 0..5 {
        packets.extend(calls(&mut talk, 6));
        let mut request = talk.by_client(GET);
        request[1] = request[1].clone().cut(20);
        packets.extend([request, talk.by_server(OK)].concat());
    }
    assert_eq!(observe_open(&packets).1.spared().count(), 0);
    // Who is spared and was never told so is listened to as before.
    let mut talk = Talk::live(Some(11), Some(22));
    assert_eq!(told(&[calls(&mut talk, 20), talk.close()].concat()), ["Destination GET h /a -> 200"; 20]);
}

#[test]
fn ends_meet_through_address_translation() {
    let service = "10.96.0.10:80".parse().expect("an address");
    let mut talk = Talk::live(Some(11), Some(22));
    let mut packets = [talk.by_client(GET), talk.by_server(OK)].concat();
    for packet in packets.iter_mut().filter(|packet| packet.socket == 11) {
        // The service's address is translated somewhere behind the client's hook.
        packet.endpoints.remote = service;
        packet.wire.remote = service;
    }
    let seen = observe(&packets);
    assert_eq!(lines(&seen), ["Destination GET h /a -> 200"]);
    assert_eq!(exchange(&seen[0]).destination.address.to_string(), SERVER);
}

#[test]
fn equal_loopback_addresses_in_two_namespaces_are_two_connections() {
    let mut first = Talk::live(Some(11), None);
    first.client = "127.0.0.1:40000".parse().expect("an address");
    first.server = "127.0.0.1:80".parse().expect("an address");
    let mut second = Talk { sockets: (None, Some(22)), ..first.clone() };
    let mut packets = [first.by_client(GET), second.by_client(GET), second.by_server(OK), first.by_server(OK)].concat();
    for packet in &mut packets {
        packet.netns = Some(if packet.socket == 11 { 1 } else { 2 });
    }
    assert_eq!(told(&packets), ["Destination GET h /a -> 200", "Source GET h /a -> 200"]);
}

#[test]
fn a_reused_port_is_another_connection() {
    let mut packets = Vec::new();
    for round in 0..3_u32 {
        let mut talk = Talk::live(Some(11 + u64::from(round)), Some(22 + u64::from(round)));
        talk.client_next = talk.client_next.wrapping_add(round * 77);
        packets.extend([talk.by_client(GET), talk.by_server(OK), talk.close()].concat());
    }
    let seen = observe(&packets);
    assert_eq!(lines(&seen), ["Destination GET h /a -> 200"; 3]);
    for (round, observation) in (0..3).zip(&seen) {
        assert_eq!(exchange(observation).source.socket, Some(SocketId(11 + round)));
    }
}

#[test]
fn tls_is_one_connection_with_its_name() {
    let hello = auditor_wire::tls::sample_hello("db.example", &["h2"]);
    let mut talk = Talk::live(Some(11), Some(22));
    let mut packets = talk.by_client(&hello[..100]);
    packets.extend(talk.by_client(&hello[100..]).into_iter().map(Packet::muting));
    let seen = observe(&packets);
    let expected = "Destination 10.0.0.1:51234 -> 10.0.0.2:8080: Tls db.example [\"h2\"] undetermined unknown";
    assert_eq!(lines(&seen), [expected]);
    let Observation::Connection(connection) = &seen[0] else { panic!("expected a connection") };
    assert_eq!(connection.source.owner, Some(owner(11)));
    // The source's view alone waits for the other end.
    let mut talk = Talk::live(Some(11), None);
    let muted: Vec<_> = talk.by_client(&hello).into_iter().map(Packet::muting).collect();
    let (mut seen, mut tracker) = observe_open(&muted);
    assert_eq!(lines(&seen), [""; 0]);
    tracker.advance(Timestamp(talk.time + 300_000_000), &mut |observation| seen.push(observation));
    assert_eq!(lines(&seen), [expected.replace("Destination", "Source")]);
}

#[test]
fn other_protocols_are_one_connection() {
    let mut talk = Talk::live(Some(11), Some(22));
    let packets = [talk.by_client(b"\0\0\0\x08\x04\xd2\x16\x2f"), talk.by_server("N")].concat();
    let muting: Vec<_> = packets.into_iter().map(Packet::muting).collect();
    assert_eq!(told(&muting), ["Destination 10.0.0.1:51234 -> 10.0.0.2:8080: Other"]);
}

#[test]
fn skipped_bodies_are_passed_over() {
    let mut talk = Talk::live(Some(11), Some(22));
    let mut packets = talk.by_client("POST /big HTTP/1.1\r\nContent-Length: 100000\r\n\r\n");
    talk.skip(true, 100_000);
    packets.extend(talk.by_server("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8000\r\n"));
    talk.skip(false, 0x8000 + 7);
    packets.extend(talk.by_client(GET));
    packets.extend(talk.by_server("HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n"));
    talk.skip(false, 9_000_000);
    packets.extend(talk.by_client(GET));
    packets.extend(talk.by_server(OK));
    let expected = ["Destination POST - /big -> 200", "Destination GET h /a -> 200", "Destination GET h /a -> 200"];
    assert_eq!(told(&packets), expected);
}

#[test]
fn a_body_beyond_the_sequence_space_is_passed_over() {
    let mut talk = Talk::live(Some(11), Some(22));
    let length = 5_000_000_000_u64;
    let mut packets = talk.by_client(GET);
    packets.extend(talk.by_server(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n")));
    talk.skip(false, 3_000_000_000);
    // Within the body something looks like a head.
    packets.extend(talk.by_server(OK));
    talk.skip(false, 2_000_000_000 - u32::try_from(OK.len()).expect("a short text"));
    packets.extend(talk.by_client(GET));
    packets.extend(talk.by_server("HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"));
    assert_eq!(told(&packets), ["Destination GET h /a -> 200", "Destination GET h /a -> 403"]);
}

#[test]
fn a_cut_request_head_is_unknown_and_a_cut_response_head_is_not() {
    let mut talk = Talk::live(None, Some(22));
    let long = format!("GET /long HTTP/1.1\r\nHost: h\r\nCookie: {}\r\nAuthorization: x\r\n\r\n", "c".repeat(20_000));
    let packets = [
        talk.by_client(&long).into_iter().map(|packet| packet.cut(16_384)).collect(),
        talk.by_server(format!("HTTP/1.1 200 OK\r\nSet-Cookie: {}\r\n\r\nbody", "c".repeat(9_000)))
            .into_iter()
            .map(|packet| packet.cut(4096))
            .collect(),
        talk.by_client(GET),
        talk.by_server(OK),
    ];
    assert_eq!(
        told(&packets.concat()),
        ["Destination GET h /long -> 200 (head-truncated)", "Destination GET h /a -> 200"]
    );
}

#[test]
fn ingress_segments_come_in_any_order() {
    let mut talk = Talk::live(None, Some(22));
    let parts: Vec<Packet> = GET.as_bytes().chunks(5).flat_map(|part| talk.by_client(part)).collect();
    let mut packets = vec![parts[0].clone()];
    packets.extend(parts[1..].iter().rev().cloned());
    packets.extend(parts.iter().cloned());
    packets.extend(talk.by_server(OK));
    assert_eq!(told(&packets), ["Destination GET h /a -> 200"]);
}

/// The first packet was lost, and is sent again; or is not.
#[test]
fn what_comes_before_the_first_byte_waits_for_it() {
    let mut talk = Talk::live(None, Some(22));
    let parts = ["GET /a HTTP/1.1\r\nHost: h\r\n", "X-A: b\r\n", "Authorization: Bearer x\r\n\r\n"]
        .map(|it| talk.by_client(it));
    let [first, second, third] = parts.map(|packets| packets[0].clone());
    let ahead = |packet: &Packet| Packet { class: Class::Ahead, ..packet.clone() };
    let again = Packet { time: talk.time + 300_000_000, ..first };
    talk.time += 400_000_000;
    let after = talk.by_server(OK);
    for early in [[ahead(&second), ahead(&third)], [ahead(&third), ahead(&second)]] {
        let packets = [&early[..], std::slice::from_ref(&again), &after].concat();
        assert_eq!(told(&packets), ["Destination GET h /a -> 200"]);
        let never = [&early[..], &after].concat();
        assert_eq!(told(&never), ["Destination ? -> 200 (gap)"]);
    }
}

#[test]
fn muting_leaves_no_call_unanswered() {
    let mut talk = Talk::live(None, Some(22));
    let packets: Vec<_> = talk.by_client(GET).into_iter().map(Packet::muting).collect();
    assert_eq!(told(&packets), ["Destination GET h /a -> none (unread-protocol)"]);
}

#[test]
fn reporters_are_told_by_who_asks_not_by_ports() {
    let mut talk = Talk::live(Some(11), None);
    std::mem::swap(&mut talk.client, &mut talk.server);
    let packets = [talk.by_client(GET), talk.by_server(OK)].concat();
    assert_eq!(packets[0].direction, Direction::Egress);
    let seen = observe(&packets);
    assert_eq!(exchange(&seen[0]).reporter, Reporter::Source);
    let Endpoints { local, .. } = exchange(&seen[0]).wire;
    assert_eq!(local.to_string(), SERVER);
}

#[test]
fn a_unix_socket_in_a_protocol_that_is_not_read_is_told_of_with_who_connected_as_the_client() {
    let nowhere = "[::]:0".parse().expect("an address");
    let endpoints = Endpoints { local: nowhere, remote: nowhere };
    let startup = [0, 0, 0, 9, 0, 3, 0, 0, 0];
    let opening = Segment {
        time: Timestamp(1_000),
        socket: SocketId::unix(7),
        direction: Direction::Ingress,
        wire: endpoints,
        endpoints,
        sequence: 0,
        syn: true,
        fin: false,
        rst: false,
        length: 0,
        payload: &[],
        class: Class::Unclassified,
        fresh: true,
        gap: false,
        complete_source: false,
        passed_over: None,
        repeat: None,
        muted: false,
        owner: None,
        cgroup: None,
        netns: None,
    };
    // The start of a session of PostgreSQL, and what asks whether TLS is to be had.
    for payload in [startup.as_slice(), &[0, 0, 0, 8, 4, 210, 22, 47]] {
        let length = u32::try_from(payload.len()).expect("short");
        let first = Segment { syn: false, length, payload, class: Class::Other, muted: true, ..opening };
        let mut tracker = Tracker::new(Limits::default());
        let mut seen = Vec::new();
        tracker.segment(&opening, &mut |observation| seen.push(observation));
        tracker.segment(&first, &mut |observation| seen.push(observation));
        tracker.finish(&mut |observation| seen.push(observation));
        let [Observation::Connection(connection)] = &seen[..] else { panic!("{seen:?}") };
        assert_eq!((&connection.protocol, connection.reporter), (&Protocol::Other, Reporter::Destination));
        assert_eq!(connection.destination.socket, Some(SocketId::unix(7)));
    }
}
