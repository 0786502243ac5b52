//! Calls over `AF_UNIX` sockets: what the kernel's word on who connects counts for, and who reaches a sensitive socket.

use auditor::{
    attribution::Attributed,
    judgement::{Address, Container, Judgement, Party, Severity, Verdict},
};
use auditor_wire::exchange::Protocol;

use crate::{calls, connections::connection, judge};

const RULE: &str = "unix-socket-exposed";

/// Makes two parties those of a connection to the socket at `path`, from a container when `inside`.
fn over_unix(source: &mut Party, destination: &mut Party, path: &str, inside: bool) {
    for party in [&mut *source, &mut *destination] {
        (party.address, party.port) = (Address::Unix, 0);
    }
    destination.unix_path = Some(path.into());
    source.container = inside.then(|| Container { id: "0123456789abcdef".into() }.into());
}

pub(crate) fn judged(path: &str, inside: bool, request: &str, response: &str) -> Judgement {
    let Attributed { observed, mut source, mut destination } = calls::call(request, response);
    over_unix(&mut source, &mut destination, path, inside);
    judge().exchange(Attributed { observed, source, destination }).expect("such calls are internal")
}

fn exposed(judgement: &Judgement) -> Option<Severity> {
    judgement.findings.iter().find(|finding| finding.rule == RULE).map(|finding| finding.severity)
}

pub(crate) const PLAIN: &str = "GET /containers/json HTTP/1.1\r\nHost: docker\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\n\r\n";

#[test]
fn a_call_without_credential_is_not_unauthenticated() {
    let judgement = judged("/run/app.sock", false, PLAIN, OK);
    assert_eq!((judgement.verdict, judgement.unknown_reason), (Verdict::Unknown, Some("peer-credentials")));
    assert!(judgement.findings.is_empty(), "{:?}", judgement.findings);
    // A credential counts as it does anywhere, and such a socket is not a wire that others read.
    let bearer = "GET /containers/json HTTP/1.1\r\nAuthorization: Bearer opaque-token-value\r\n\r\n";
    let judgement = judged("/run/app.sock", false, bearer, OK);
    assert_eq!((judgement.verdict, judgement.unknown_reason), (Verdict::Authenticated, None));
    assert!(judgement.findings.is_empty(), "{:?}", judgement.findings);
}

#[test]
fn a_container_that_reaches_a_runtime_is_found_and_one_that_is_refused_is_not() {
    assert_eq!(exposed(&judged("/run/docker.sock", true, PLAIN, OK)), Some(Severity::Critical));
    assert_eq!(exposed(&judged("/run/redis/redis.sock", true, PLAIN, OK)), Some(Severity::High));
    assert_eq!(exposed(&judged("/run/docker.sock", true, PLAIN, "HTTP/1.1 403 Forbidden\r\n\r\n")), None);
    assert_eq!(exposed(&judged("/run/docker.sock", false, PLAIN, OK)), None);
    assert_eq!(exposed(&judged("/run/app.sock", true, PLAIN, OK)), None);
}

#[test]
fn so_is_a_connection_in_a_protocol_that_is_not_read() {
    let judged = |path, protocol| {
        let Attributed { observed, mut source, mut destination } = connection(protocol);
        over_unix(&mut source, &mut destination, path, true);
        judge().connection(Attributed { observed, source, destination }).expect("internal")
    };
    let judgement = judged("/var/run/postgresql/.s.PGSQL.5432", Protocol::Other);
    assert_eq!((exposed(&judgement), judgement.unknown_reason), (Some(Severity::High), Some("unread-protocol")));
    assert_eq!(exposed(&judged("/run/containerd/containerd.sock", Protocol::Http2)), Some(Severity::Critical));
    assert_eq!(exposed(&judged("/run/app.sock", Protocol::Other)), None);
}

#[test]
fn records_of_such_calls_invent_no_address() {
    let judgement = judged("/run/docker.sock", true, PLAIN, OK);
    let record = serde_json::to_value(&judgement).expect("a record");
    for end in ["source", "destination"] {
        assert!(record[end]["address"].is_null() && record[end]["port"].is_null(), "{record}");
    }
    assert_eq!(record["destination"]["unix_path"], "/run/docker.sock");
    assert_eq!(record["source"].get("unix_path"), None);
    assert_eq!(record["decision"]["resource"], "GET unix /containers/json", "{record}");
}
