//! TLS 1.3: what the client did about its certificate, and what the server made of it, from the lengths and the order of
//! encrypted records.
//!
//! The first encrypted record of the client after the last ServerHello decides. A client that is asked must answer with a
//! Certificate message, empty or not, before its Finished (RFC 8446 section 4.4.2); one that is not asked sends Finished alone,
//! whose length is known. What has no length that is known stays undetermined.

use super::late::{Late, late};
use super::lengths::{Lengths, Padding};
use super::trace::{Mark, Trace, Track};
use super::{Accepted, ClientCertificate};

/// The shortest record that a certificate of a client begins with, bytes: those seen have 456 or more.
const SHORTEST_CERTIFICATE: u16 = 180;
/// The same where the client may give a bare key (RFC 7250): 57 bytes for Ed25519.
const SHORTEST_RAW_KEY: u16 = 74;
/// The longest message with EncryptedExtensions alone, bytes on the wire; with a CertificateRequest in it, it would be longer.
const LONGEST_EXTENSIONS: u16 = 61;
/// The shortest and longest record that is believed to be a CertificateRequest alone.
const REQUEST: std::ops::RangeInclusive<u16> = 32..=400;

/// What the hellos said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) lengths: Lengths,
    /// The server goes on with the client's pre-shared key.
    pub(super) resumed: bool,
    /// The client may have sent early data.
    pub(super) early_data: bool,
    pub(super) post_handshake_auth: bool,
    pub(super) raw_keys: bool,
    /// The client takes tickets.
    pub(super) takes_tickets: bool,
}

/// What is known of the server from elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Habit {
    /// It sends something of its own accord, a ticket, after every handshake of a client that takes tickets.
    pub(super) speaks_first: bool,
    /// How it pads its records.
    pub(super) padding: Option<Padding>,
}

/// What is said of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) certificate: ClientCertificate,
    pub(super) accepted: Accepted,
    /// What the client had given when the server ended the handshake.
    pub(super) refused: Option<ClientCertificate>,
    pub(super) requested: Option<bool>,
    /// More records would not change it.
    pub(super) settled: bool,
    /// The first thing the server said after the client's Finished that is no alert: its length, and whether it came before
    /// the client said more.
    pub(super) answer: Option<(u16, bool)>,
    /// How the server pads its records.
    pub(super) padding: Option<Padding>,
}

/// What the client's flight holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flight {
    /// Its end was not seen yet.
    Open,
    /// Its lengths say nothing, yet or for good.
    Unknown,
    /// It holds this; its first and last record.
    Gave(ClientCertificate, u16, u16),
}

/// Judges what happened.
pub(super) fn judge(trace: &Trace, offer: &Offer, habit: &Habit) -> Verdict {
    let first = trace.client.records.first().map_or(u16::MAX, |mark| mark.at);
    let greeting: Vec<u16> =
        trace.server.records.iter().take_while(|mark| mark.at < first).map(|mark| mark.length).collect();
    let (asked, padding) = greeted(&greeting, offer);
    let padding = padding.or(habit.padding).or_else(|| blocks(&trace.server, offer));
    let mut verdict = Verdict { requested: asked, padding, ..Verdict::default() };
    if trace.client.lost.is_some_and(|lost| lost < first) {
        verdict.settled = true;
        return verdict;
    }
    if gave_up(trace, offer) {
        verdict.certificate = ClientCertificate::Rejected;
        verdict.accepted = Accepted::No;
        verdict.settled = true;
        return verdict;
    }
    let flight = if offer.resumed { resumed(&trace.client, offer) } else { full(trace, asked, offer) };
    let scene = Scene { trace, offer, habit, padding, asked };
    scene.answered(flight, &mut verdict);
    let determined = verdict.certificate != ClientCertificate::Undetermined;
    let blind = if determined { trace.server.lost.is_some() } else { trace.client.lost.is_some() };
    verdict.settled |= blind || trace.is_full() || trace.over;
    verdict
}

/// The handshake ended before the client's flight: by the server, or by the client, which gives a record with an alert or none.
fn gave_up(trace: &Trace, offer: &Offer) -> bool {
    let client = &trace.client;
    let alert = |mark: &Mark| offer.lengths.may_be_alert(mark.length, None);
    if !client.records.iter().all(alert) {
        return false;
    }
    let server = trace.server.lost.is_none() && (trace.server.end.is_some() || trace.server.alert.is_some());
    let client = client.alert.is_some() || client.end.is_some() || !client.records.is_empty();
    (server || client) && (trace.ended() || trace.client.alert.is_some() || trace.server.alert.is_some())
}

/// Whether the server asked for a certificate, and how it pads, from its first flight: a server that gives each message its own
/// record sends EncryptedExtensions, CertificateRequest if it asks, Certificate, CertificateVerify, Finished.
fn greeted(records: &[u16], offer: &Offer) -> (Option<bool>, Option<Padding>) {
    let lengths = offer.lengths;
    let Some(last) = records.iter().position(|length| lengths.is_finished(*length)) else { return (None, None) };
    let padding = lengths.padding_of_finished(records[last]);
    if offer.resumed {
        return (None, padding.filter(|_| last == 1));
    }
    let pad = if padding == Some(Padding::Sixteen) { 16 } else { 0 };
    match records[..last] {
        [extensions, certificate, verify]
            if lengths.is_certificate_verify(verify)
                && certificate >= SHORTEST_CERTIFICATE
                && extensions <= LONGEST_EXTENSIONS + pad =>
        {
            (Some(false), padding)
        }
        // In parts of one length, what looks like a request might be the first part of the certificate.
        [_, request, certificate, verify]
            if lengths.is_certificate_verify(verify)
                && certificate >= SHORTEST_CERTIFICATE
                && REQUEST.contains(&request)
                && request < certificate =>
        {
            (Some(true), padding)
        }
        _ => (None, None),
    }
}

/// Whether all of a side's records are padded to multiples of a length.
fn blocks(track: &Track, offer: &Offer) -> Option<Padding> {
    offer.lengths.block(&lengths(track)).map(Padding::Blocks)
}

fn lengths(track: &Track) -> Vec<u16> {
    track.records.iter().map(|mark| mark.length).collect()
}

/// The client's flight in a connection that goes on with a session: Finished, behind early data if there was any.
fn resumed(client: &Track, offer: &Offer) -> Flight {
    let finished = |mark: &&Mark| !offer.early_data || offer.lengths.is_finished(mark.length);
    match client.records.iter().find(finished) {
        Some(mark) => Flight::Gave(ClientCertificate::Resumed, mark.at, mark.at),
        None => Flight::Open,
    }
}

/// The client's flight in a full handshake.
fn full(trace: &Trace, asked: Option<bool>, offer: &Offer) -> Flight {
    let client = &trace.client;
    let Some(first) = client.records.first() else { return Flight::Open };
    let flight = if offer.early_data {
        behind_early_data(&client.records, asked, offer)
    } else {
        from_first(&client.records, *first, asked, offer)
    };
    // One record may be a short message with as much padding as every other will have.
    if let Flight::Gave(ClientCertificate::Presented, ..) = flight
        && client.records.len() == 1
        && client.end.is_none()
        && !trace.ended()
    {
        return Flight::Open;
    }
    match (flight, asked) {
        // One that is not asked gives no certificate, and one that is asked says so when it has none.
        (Flight::Gave(ClientCertificate::None, ..), Some(true))
        | (Flight::Gave(ClientCertificate::Empty | ClientCertificate::Presented, ..), Some(false)) => Flight::Unknown,
        (flight, _) => flight,
    }
}

/// A flight that may begin behind early data the server refused: only its end is sure.
fn behind_early_data(records: &[Mark], asked: Option<bool>, offer: &Offer) -> Flight {
    let lengths = offer.lengths;
    let Some(last) = records.iter().position(|mark| lengths.is_finished(mark.length)) else { return Flight::Open };
    let end = records[last].at;
    match (asked, &records[..last]) {
        (Some(false), _) | (None, []) => Flight::Gave(ClientCertificate::None, end, end),
        (Some(true), [.., empty]) if lengths.is_empty_certificate(empty.length, 0) => {
            Flight::Gave(ClientCertificate::Empty, empty.at, end)
        }
        (Some(true), [.., certificate, verify])
            if lengths.is_certificate_verify(verify.length) && certificate.length >= shortest(offer) =>
        {
            Flight::Gave(ClientCertificate::Presented, certificate.at, end)
        }
        _ => Flight::Unknown,
    }
}

/// A flight that begins with the first record.
fn from_first(records: &[Mark], first: Mark, asked: Option<bool>, offer: &Offer) -> Flight {
    let lengths = offer.lengths;
    let gave = |certificate, last: Mark| Flight::Gave(certificate, first.at, last.at);
    if lengths.is_finished(first.length) {
        return gave(ClientCertificate::None, first);
    }
    if lengths.is_empty_flight(first.length) {
        return gave(ClientCertificate::Empty, first);
    }
    if lengths.is_empty_certificate(first.length, 0) {
        return match records.get(1) {
            None => Flight::Open,
            Some(second) if lengths.is_finished(second.length) => gave(ClientCertificate::Empty, *second),
            Some(_) => Flight::Unknown,
        };
    }
    let all: Vec<u16> = records.iter().map(|mark| mark.length).collect();
    if let Some(block) = lengths.block(&all)
        && first.length <= lengths.most_without_certificate(block)
    {
        return padded(records, first, asked, lengths);
    }
    let end = records.iter().position(|mark| lengths.is_finished(mark.length)).filter(|end| *end > 1);
    if let Some(end) = end
        && lengths.is_certificate_verify(records[end - 1].length)
        && first.length >= shortest(offer)
    {
        return gave(ClientCertificate::Presented, records[end]);
    }
    if lengths.is_certificate_flight(first.length) {
        return gave(ClientCertificate::Presented, first);
    }
    if first.length >= shortest(offer) && records.len() < 3 { Flight::Open } else { Flight::Unknown }
}

/// The flight of a client that may pad all its records to multiples of a length.
fn padded(records: &[Mark], first: Mark, asked: Option<bool>, lengths: Lengths) -> Flight {
    match (asked, records) {
        (Some(false), _) => Flight::Gave(ClientCertificate::None, first.at, first.at),
        // Too short for Finished and for any certificate, and not all it says.
        (Some(true), [_, second, ..]) if lengths.is_too_short(first.length) && !lengths.is_too_short(second.length) => {
            Flight::Gave(ClientCertificate::Empty, first.at, second.at)
        }
        _ => Flight::Unknown,
    }
}

/// The shortest record that a client's certificate may begin with.
fn shortest(offer: &Offer) -> u16 {
    if offer.raw_keys { SHORTEST_RAW_KEY } else { SHORTEST_CERTIFICATE }
}

/// What an answer is judged by.
struct Scene<'a> {
    trace: &'a Trace,
    offer: &'a Offer,
    habit: &'a Habit,
    padding: Option<Padding>,
    asked: Option<bool>,
}

impl Scene<'_> {
    /// Completes the verdict with what the server made of the client's flight.
    fn answered(&self, flight: Flight, verdict: &mut Verdict) {
        let (certificate, begin, end) = match flight {
            Flight::Gave(certificate, begin, end) => (certificate, begin, end),
            Flight::Open | Flight::Unknown => {
                let begin = self.trace.client.records.first();
                let begins = begin.is_some_and(|first| flight == Flight::Open && self.begins_flight(first.length));
                if let (true, Some(first)) = (begins, begin) {
                    self.refused(ClientCertificate::Undetermined, first.at, first.at, verdict);
                    verdict.settled = verdict.accepted != Accepted::Unknown;
                }
                return;
            }
        };
        verdict.certificate = certificate;
        match certificate {
            ClientCertificate::None => verdict.requested = Some(false),
            ClientCertificate::Empty | ClientCertificate::Presented => verdict.requested = Some(true),
            _ => {}
        }
        verdict.answer = self.answer(end);
        let may_follow = certificate == ClientCertificate::None && self.offer.post_handshake_auth;
        match may_follow.then(|| late(self.trace, end, self.offer.lengths)) {
            Some(Late::Gave(certificate, begin, end)) => {
                verdict.certificate = certificate;
                verdict.requested = Some(true);
                verdict.accepted = Accepted::Unknown;
                self.judge_answer(certificate, begin, end, verdict);
            }
            Some(Late::Open) => {
                self.judge_answer(certificate, begin, end, verdict);
                verdict.settled &= self.trace.client.end.is_some() || self.trace.client.lost.is_some();
            }
            Some(Late::Nothing) | None => self.judge_answer(certificate, begin, end, verdict),
        }
    }

    /// Completes the verdict with what the server made of messages of the client.
    fn judge_answer(&self, certificate: ClientCertificate, begin: u16, end: u16, verdict: &mut Verdict) {
        if self.answer(end).is_some() {
            verdict.accepted = Accepted::Yes;
            verdict.settled = true;
        } else {
            self.refused(certificate, begin, end, verdict);
            verdict.settled = verdict.accepted != Accepted::Unknown;
        }
    }

    /// Whether a record can be the begin of a flight with a certificate message whose rest was not seen.
    fn begins_flight(&self, length: u16) -> bool {
        self.offer.lengths.is_empty_certificate(length, 0) || length >= shortest(self.offer)
    }

    /// The server's first record after the client's flight that cannot be an alert.
    fn answer(&self, end: u16) -> Option<(u16, bool)> {
        if self.spoke_early() {
            return None;
        }
        let answer =
            self.trace.server.after(end).find(|mark| !self.offer.lengths.may_be_alert(mark.length, self.padding))?;
        Some((answer.length, self.trace.client.after(end).all(|mark| mark.at > answer.at)))
    }

    /// The server asked and did not wait for the answer before it sent data: what it sends later says nothing either.
    fn spoke_early(&self) -> bool {
        let first = self.trace.client.records.first().map_or(u16::MAX, |mark| mark.at);
        self.asked == Some(true) && self.trace.server.records.iter().filter(|mark| mark.at < first).count() > 5
    }

    /// How the client pads, from its Finished where that is a record of its own or behind an empty certificate.
    fn client_padding(&self) -> Option<Padding> {
        self.trace.client.records.iter().find_map(|mark| self.offer.lengths.padding_of_finished(mark.length))
    }

    /// Says whether the server ended the handshake: with no more than two alerts and before the client closed.
    fn refused(&self, certificate: ClientCertificate, begin: u16, end: u16, verdict: &mut Verdict) {
        let Trace { client, server, .. } = self.trace;
        if server.lost.is_some() || client.lost.is_some() || !self.trace.ended() {
            return;
        }
        let lengths = self.offer.lengths;
        let after: Vec<Mark> = server.after(begin).collect();
        if after.len() > 2 || !after.iter().all(|mark| lengths.is_alert(mark.length, self.padding)) {
            return;
        }
        let padding = self.client_padding();
        let closing = client.after(end).find(|mark| lengths.may_be_alert(mark.length, padding)).map(|mark| mark.at);
        let closed = [closing, client.alert, client.end].into_iter().flatten().min();
        let alert = after.first().map(|mark| mark.at).or(server.alert);
        let Some(sign) = alert.into_iter().chain(server.end).min() else { return };
        let first = closed.is_none_or(|closed| sign < closed);
        match certificate {
            // Where nothing was asked for there is nothing to refuse: so ends a connection that was not used.
            ClientCertificate::None if alert.is_some() && (first || closing.is_some()) => {
                verdict.accepted = Accepted::Yes
            }
            // The server had checked the key of the session before it chose it (RFC 8446 section 4.2.11).
            ClientCertificate::Resumed if alert.is_some() => verdict.accepted = Accepted::Yes,
            ClientCertificate::None | ClientCertificate::Resumed => {}
            _ if first || (self.habit.speaks_first && self.offer.takes_tickets) => {
                verdict.certificate = ClientCertificate::Rejected;
                verdict.accepted = Accepted::No;
                verdict.refused = Some(certificate);
            }
            _ => {}
        }
    }
}
