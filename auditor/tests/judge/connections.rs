//! Connections without readable calls.

use auditor::{
    attribution::Attributed,
    judgement::{Judgement, Outcome, Security, Verdict},
};
use auditor_wire::exchange::{Connection, Protocol};
use auditor_wire::tls::Facts;

use crate::{calls, judge};

pub(crate) fn connection(protocol: Protocol) -> Attributed<Connection> {
    let Attributed { observed: exchange, source, destination } = calls::call("GET / HTTP/1.1\r\n\r\n", "");
    let observed = Connection {
        reporter: exchange.reporter,
        source: exchange.source,
        destination: exchange.destination,
        wire: exchange.wire,
        time: exchange.time,
        protocol,
    };
    Attributed { observed, source, destination }
}

fn facts(judgement: &Judgement) -> (&str, Security, Option<&str>) {
    assert_eq!((judgement.verdict, judgement.outcome), (Verdict::Unknown, Outcome::Unanswered));
    assert!(judgement.findings.is_empty());
    (judgement.protocol, judgement.transport.security, judgement.unknown_reason)
}

#[test]
fn what_cannot_be_read_is_unknown() {
    let hello = Facts { sni: Some("inventory\u{1b}".into()), alpn: vec!["h2".into()], ..Facts::default() };
    let tls = Protocol::Tls(Box::new(hello));
    let judgement = judge().connection(connection(tls)).expect("internal");
    assert_eq!(facts(&judgement), ("tls", Security::Tls, Some("undetermined-tls")));
    let tls = judgement.transport.tls.as_ref().expect("TLS");
    assert_eq!(tls.sni.as_deref(), Some("inventory\u{fffd}"));
    assert_eq!(tls.alpn, ["h2".into()]);
    let judgement = judge().connection(connection(Protocol::Http2)).expect("internal");
    assert_eq!(facts(&judgement), ("http/2", Security::Plaintext, Some("http2")));
    let judgement = judge().connection(connection(Protocol::Other)).expect("internal");
    assert_eq!(facts(&judgement), ("unknown", Security::Unknown, Some("unread-protocol")));
}

#[test]
fn an_upgraded_connection_was_judged_as_a_call() {
    let mut judge = judge();
    assert!(judge.connection(connection(Protocol::Upgraded)).is_none());
    assert_eq!(judge.external(), 0);
}

#[test]
fn external_connections_are_counted_and_left_alone() {
    let mut judge = judge();
    for side in 0..2 {
        let mut connection = connection(Protocol::Http2);
        let party = if side == 0 { &mut connection.source } else { &mut connection.destination };
        party.internal = false;
        assert!(judge.connection(connection).is_none());
    }
    assert_eq!(judge.external(), 2);
}
