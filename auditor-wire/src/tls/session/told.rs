//! What is told of a session: its facts, and what it shows for the memory of its server.

use super::{Phase, Session};
use crate::tls::decide13::Habit;
use crate::tls::hello::Name;
use crate::tls::lengths::Padding;
use crate::tls::{Accepted, ClientAuth, ClientCertificate, Evidence, Facts, Version};

/// What a connection shows beside its facts, for the memory of its server.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::tls) struct Shown {
    /// Names of sessions it began or gave a ticket for.
    pub(in crate::tls) issued: [Option<Name>; 2],
    /// Name of the session it went on with.
    pub(in crate::tls) resumed: Option<Name>,
    /// The length of the ticket it went on with (TLS 1.3).
    pub(in crate::tls) identity_length: Option<u16>,
    /// The server's first message after the handshake, without what encryption adds, and whether the client had said nothing.
    pub(in crate::tls) answer: Option<(u16, bool)>,
    pub(in crate::tls) padding: Option<Padding>,
    pub(in crate::tls) takes_tickets: bool,
}

impl Session {
    /// What is known, with what is known of the server from elsewhere.
    pub(in crate::tls) fn facts_of(&self, habit: Option<&Habit>) -> Facts {
        let hello = self.hello.as_ref();
        let mut facts = Facts {
            version: self.answer.as_ref().and_then(|answer| answer.version).map(Version),
            suite: self.answer.as_ref().map(|answer| answer.suite),
            sni: hello.and_then(|hello| hello.sni.clone()),
            alpn: hello.map(|hello| hello.alpn.clone()).unwrap_or_default(),
            client_chain: self.client.chain.clone(),
            server_chain: self.server.chain.clone(),
            client_random: hello.and_then(|hello| hello.random),
            ..Facts::default()
        };
        match &self.phase {
            Phase::Greeting | Phase::Unreadable => {}
            Phase::Refused => {
                facts.client = auth(ClientCertificate::Rejected, Accepted::No, Evidence::Proven);
            }
            Phase::Clear(clear) => {
                let verdict = clear.judge();
                facts.resumed = verdict.resumed;
                facts.requested = verdict.requested;
                facts.refused = verdict.refused;
                facts.client = auth(verdict.certificate, verdict.accepted, Evidence::Proven);
            }
            Phase::Encrypted(encrypted) => {
                let verdict = habit.map_or(encrypted.verdict, |habit| encrypted.judged(habit));
                facts.resumed = Some(encrypted.offer.resumed);
                facts.requested = verdict.requested;
                facts.refused = verdict.refused;
                facts.client = auth(verdict.certificate, verdict.accepted, Evidence::Inferred);
            }
        }
        facts
    }

    /// What it shows beside its facts.
    pub(in crate::tls) fn shown(&self) -> Shown {
        let hello = self.hello.as_ref();
        match &self.phase {
            Phase::Clear(clear) => {
                // A client that has a ticket makes up a session id, and the server repeats it (RFC 5077 section 3.4).
                let ticket = hello.and_then(|hello| hello.ticket);
                let session = self.answer.as_ref().and_then(|answer| answer.session);
                Shown {
                    issued: [self.issued, session.filter(|_| clear.judge().resumed == Some(false))],
                    resumed: ticket.or(hello.and_then(|hello| hello.session)),
                    ..Shown::default()
                }
            }
            Phase::Encrypted(encrypted) => {
                let first = self.answer.as_ref().is_some_and(|answer| answer.first_identity);
                let identity = hello.and_then(|hello| hello.identity).filter(|_| first);
                let overhead = encrypted.offer.lengths.overhead();
                let answer = encrypted.verdict.answer;
                Shown {
                    issued: [None, None],
                    resumed: identity.map(|(name, _)| name),
                    identity_length: identity.map(|(_, length)| length),
                    answer: answer.map(|(length, first)| (length.saturating_sub(overhead), first)),
                    padding: encrypted.verdict.padding,
                    takes_tickets: encrypted.offer.takes_tickets,
                }
            }
            Phase::Greeting | Phase::Refused | Phase::Unreadable => Shown::default(),
        }
    }
}

/// What is said of the client. What is not determined or began in another connection has no evidence.
fn auth(certificate: ClientCertificate, accepted: Accepted, evidence: Evidence) -> ClientAuth {
    let evidence = match certificate {
        ClientCertificate::Undetermined | ClientCertificate::Resumed => Evidence::Unknown,
        _ => evidence,
    };
    ClientAuth { certificate, accepted, evidence, inherited: None }
}
