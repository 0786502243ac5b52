//! What is remembered of the servers that were talked to: what one connection shows helps to judge the next.

use std::net::SocketAddr;
use std::time::Duration;

use super::decide13::Habit;
use super::hello::Name;
use super::lengths::Padding;
use super::memory::Memory;
use super::session::Shown;
use super::{Accepted, ClientCertificate, Evidence, Facts, Session};
use crate::segment::Timestamp;

/// Handshakes after which a server was seen to speak first before that is taken for its habit.
const HABIT: u8 = 2;
/// Kinds of tickets that are remembered of an endpoint.
const MOST_TICKETS: usize = 16;
/// Sessions that are remembered for each endpoint there may be.
const SESSIONS_PER_ENDPOINT: usize = 8;
/// What a NewSessionTicket message has beside the ticket, bytes: with a nonce of 0 or 8, with and without leave for early data
/// (RFC 8446 section 4.6.1).
const AROUND_TICKET: [u16; 3] = [17, 25, 33];
/// A ticket that holds a certificate has more than this, bytes.
const SHORTEST_TICKET: u16 = 450;
/// The shortest certificate, bytes: so much longer than the longest without are tickets that hold one.
const SHORTEST_CERTIFICATE: u16 = 250;

/// A server's address as seen in one network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Where it listens.
    pub address: SocketAddr,
    /// Inode of the network namespace, where known.
    pub netns: Option<u32>,
}

/// Bounded and expiring memory of server endpoints. Of tickets and session ids it holds a hash only.
#[derive(Debug)]
pub struct Endpoints {
    endpoints: Memory<Endpoint, Known>,
    /// Whether the client of a session had given a certificate when it began.
    sessions: Memory<(Endpoint, Name), bool>,
}

/// What is known of an endpoint.
#[derive(Debug, Default)]
struct Known {
    /// How often it spoke first after a handshake.
    spoke_first: u8,
    padding: Option<Padding>,
    tickets: Vec<Ticket>,
}

/// A kind of ticket a server gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ticket {
    /// Of the record, without what encryption adds.
    length: u16,
    /// The client had given a certificate.
    gave: bool,
    /// The server sent it of its own accord: it is no answer to a request.
    sure: bool,
}

impl Endpoints {
    /// A memory of at most `most` endpoints, each forgotten when it was not used for `idle`.
    #[must_use]
    pub fn new(most: usize, idle: Duration) -> Self {
        Self {
            endpoints: Memory::new(most, idle),
            sessions: Memory::new(most.saturating_mul(SESSIONS_PER_ENDPOINT), idle),
        }
    }

    /// What is said of a connection in the end, with what earlier ones to the same endpoint showed. Learns from it, so it is
    /// called once for each connection.
    pub fn conclude(&mut self, endpoint: Endpoint, session: &Session, now: Timestamp) -> Facts {
        let known = self.endpoints.get(endpoint, now);
        let habit = known.map(|known| known.habit());
        let mut facts = session.facts_of(habit.as_ref());
        let shown = session.shown();
        let gave = match (facts.client.certificate, facts.client.accepted) {
            (ClientCertificate::Resumed, _) => self.inherit(endpoint, &shown, &mut facts, now),
            (ClientCertificate::Presented, Accepted::Yes) => Some(true),
            (ClientCertificate::None | ClientCertificate::Empty, Accepted::Yes) => Some(false),
            _ => None,
        };
        if let Some(gave) = gave {
            for name in shown.issued.into_iter().flatten() {
                self.sessions.insert((endpoint, name), gave, now);
            }
        }
        self.learn(endpoint, &facts, &shown, gave, now);
        facts
    }

    /// Endpoints held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.endpoints.len()
    }

    /// Nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Says of a resumed session what its first connection showed, where that is known.
    fn inherit(&mut self, endpoint: Endpoint, shown: &Shown, facts: &mut Facts, now: Timestamp) -> Option<bool> {
        let named = shown.resumed.and_then(|name| self.sessions.get((endpoint, name), now).copied());
        let known = self.endpoints.get(endpoint, now);
        let gave = named.or_else(|| known?.ticket_of(shown.identity_length?))?;
        facts.client.inherited = Some(gave);
        facts.client.evidence = Evidence::Inherited;
        // A client may come again with the same ticket.
        if let Some(name) = shown.resumed {
            self.sessions.insert((endpoint, name), gave, now);
        }
        Some(gave)
    }

    fn learn(&mut self, endpoint: Endpoint, facts: &Facts, shown: &Shown, gave: Option<bool>, now: Timestamp) {
        if self.endpoints.get(endpoint, now).is_none() {
            self.endpoints.insert(endpoint, Known::default(), now);
        }
        let Some(known) = self.endpoints.get(endpoint, now) else { return };
        // Blocks are a guess from one connection.
        let padding = shown.padding.filter(|padding| !matches!(padding, Padding::Blocks(_)));
        known.padding = padding.or(known.padding);
        let (Some((length, first)), Some(gave), true) = (shown.answer, gave, shown.takes_tickets) else { return };
        if facts.client.certificate == ClientCertificate::Resumed {
            return;
        }
        known.spoke_first = known.spoke_first.saturating_add(u8::from(first));
        known.add(Ticket { length, gave, sure: first });
    }
}

impl Known {
    fn habit(&self) -> Habit {
        Habit { speaks_first: self.spoke_first >= HABIT, padding: self.padding }
    }

    fn add(&mut self, ticket: Ticket) {
        let same = |held: &Ticket| (held.length, held.gave) == (ticket.length, ticket.gave);
        let sure = self.tickets.iter().any(|held| same(held) && held.sure);
        self.tickets.retain(|held| !same(held));
        if self.tickets.len() >= MOST_TICKETS {
            self.tickets.remove(0);
        }
        self.tickets.push(Ticket { sure: ticket.sure || sure, ..ticket });
    }

    /// Whether the client had given a certificate when it got a ticket of this length.
    fn ticket_of(&self, length: u16) -> Option<bool> {
        let fits =
            |ticket: &&Ticket| AROUND_TICKET.iter().any(|around| length.checked_add(*around) == Some(ticket.length));
        let mut fitting = self.tickets.iter().filter(fits);
        if let Some(first) = fitting.next() {
            // One that would be a certificate's and is short, or fits two kinds, says nothing.
            let alike = fitting.all(|ticket| ticket.gave == first.gave);
            return Some(first.gave).filter(|gave| alike && (!gave || length >= SHORTEST_TICKET));
        }
        let without =
            self.tickets.iter().filter(|ticket| ticket.sure && !ticket.gave).map(|ticket| ticket.length).max()?;
        let longer = length >= SHORTEST_TICKET && length >= without.saturating_add(SHORTEST_CERTIFICATE);
        longer.then_some(true)
    }
}
