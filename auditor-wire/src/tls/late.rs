//! TLS 1.3: a certificate that the client gives after the handshake (RFC 8446 section 4.6.2), among application data.

use super::ClientCertificate;
use super::lengths::Lengths;
use super::trace::{Mark, Trace};

/// How many records after the flight may come before a certificate that is given late.
const LATE_RECORDS: usize = 8;
/// The shortest record with a certificate that is given late, in answer to a request with a context.
const SHORTEST: u16 = 217;
/// The shortest record with a request that has a context.
const SHORTEST_REQUEST: u16 = 33;
/// Lengths of such contexts: OpenSSL's have 32 bytes, GnuTLS's 12.
const CONTEXTS: [u16; 2] = [32, 12];

/// What the client gave late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Late {
    /// Nothing within the records that are looked at.
    Nothing,
    /// Nothing yet.
    Open,
    /// This; its first and last record.
    Gave(ClientCertificate, u16, u16),
}

/// Looks for a late answer behind the client's first flight, which ended at `end`. A server record, the request, comes right
/// before it; Certificate, CertificateVerify and Finished follow each other.
pub(super) fn late(trace: &Trace, end: u16, lengths: Lengths) -> Late {
    let client: Vec<Mark> = trace.client.after(end).collect();
    let server: Vec<Mark> = trace.server.after(end).collect();
    let mut open = client.len() + server.len() < LATE_RECORDS;
    for (index, begin) in client.iter().enumerate() {
        let before = server.iter().take_while(|mark| mark.at < begin.at).count();
        if index + before >= LATE_RECORDS {
            break;
        }
        let asked = before.checked_sub(1).map(|last| server[last]).is_some_and(|request| {
            request.length >= SHORTEST_REQUEST && index.checked_sub(1).is_none_or(|last| client[last].at < request.at)
        });
        if !asked {
            continue;
        }
        let empty = CONTEXTS.iter().any(|context| lengths.is_empty_certificate(begin.length, *context));
        let finished = |mark: &Mark| lengths.is_finished(mark.length);
        match &client[index + 1..] {
            [last, ..] if empty && finished(last) => return Late::Gave(ClientCertificate::Empty, begin.at, last.at),
            [verify, last, ..]
                if begin.length >= SHORTEST && lengths.is_certificate_verify(verify.length) && finished(last) =>
            {
                return Late::Gave(ClientCertificate::Presented, begin.at, last.at);
            }
            [] if empty || begin.length >= SHORTEST => open = true,
            [verify] if begin.length >= SHORTEST && lengths.is_certificate_verify(verify.length) => open = true,
            _ => {}
        }
    }
    if open { Late::Open } else { Late::Nothing }
}
