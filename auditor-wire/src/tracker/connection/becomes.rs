//! What a connection turns out to be other than HTTP/1: TLS, or HTTP/2.

use crate::exchange::{Protocol, UnknownReason};
use crate::limits::Limits;
use crate::reassembly::Part;
use crate::segment::{Direction, Timestamp};
use crate::tls;
use crate::tracker::connection::{Connection, index};
use crate::tracker::multiplex::{Around, Multiplex};
use crate::tracker::secure::Secure;
use crate::tracker::view::{Spoken, View};

impl Connection {
    /// TLS begins with these bytes and a part.
    pub(super) fn becomes_secure(&mut self, time: Timestamp, direction: Direction, begun: &[u8], rest: &Part<'_>) {
        let mut first = begun.iter().chain(rest.payload).copied();
        let (content, message) = (first.next(), first.nth(4));
        let client = match (content, message) {
            (Some(tls::HANDSHAKE), Some(tls::CLIENT_HELLO)) => direction,
            (Some(tls::HANDSHAKE), _) => direction.opposite(),
            // In the middle of a connection.
            _ => self.who.client.unwrap_or_else(|| self.likely_client()),
        };
        self.who.client = Some(client);
        self.other = None;
        self.streams.iter_mut().for_each(|stream| stream.parser.deafen());
        let mut secure = Secure::new(client, time);
        secure.bytes(direction, begun, u32::try_from(begun.len()).unwrap_or(u32::MAX));
        secure.read(rest, direction);
        self.secure = Some(Box::new(secure));
    }

    /// HTTP/2 begins with a part.
    pub(super) fn becomes_multiplexed(
        &mut self,
        multiplex: Multiplex,
        part: &Part<'_>,
        direction: Direction,
        limits: &Limits,
        views: &mut Vec<View>,
    ) {
        self.other = None;
        self.streams.iter_mut().for_each(|stream| stream.parser.deafen());
        self.multiplex = Some(Box::new(multiplex));
        self.read_frames(part, direction, limits, views);
    }

    /// Reads a part of an HTTP/2 connection.
    pub(super) fn read_frames(
        &mut self,
        part: &Part<'_>,
        direction: Direction,
        limits: &Limits,
        views: &mut Vec<View>,
    ) {
        self.streams[index(direction)].ended |= part.fin;
        let Some(multiplex) = &mut self.multiplex else { return };
        let owner = self.who.owner.filter(|_| direction == Direction::Egress);
        let mut around = Around { head_bytes: limits.head_bytes, owner, begins: !self.complete, views };
        multiplex.read(part, direction, &mut around);
        self.who.client = multiplex.client();
    }

    /// Ends an HTTP/2 connection. With a reason: what became of its calls was not seen.
    pub(super) fn end_multiplex(&mut self, reason: Option<UnknownReason>, views: &mut Vec<View>) {
        let Some(multiplex) = &mut self.multiplex else { return };
        multiplex.flush(reason, views);
        if multiplex.calls || !self.fresh {
            return;
        }
        let (time, client) = (multiplex.time, multiplex.client().unwrap_or_else(|| self.likely_client()));
        let spoken = match &self.multiplex {
            Some(multiplex) if !multiplex.is_certain() => Protocol::Other,
            Some(multiplex) if multiplex.lost => Protocol::Http2,
            // Nothing was asked.
            _ => return,
        };
        self.report(Spoken::Plain(spoken), time, client, views);
    }

    /// Tells of a TLS connection of which nothing more is to be learnt.
    pub(super) fn tell_if_settled(&mut self, views: &mut Vec<View>) {
        if self.secure.as_ref().is_some_and(|secure| secure.session.is_settled()) {
            self.tell_secure(views);
        }
    }

    /// Tells of a TLS connection what is known by now.
    pub(super) fn tell_secure(&mut self, views: &mut Vec<View>) {
        let Some(secure) = self.secure.take() else { return };
        let Secure { mut session, client, time, .. } = *secure;
        session.finish();
        self.report(Spoken::Tls(Box::new(session)), time, client, views);
    }

    /// What is known by now of a TLS connection that was not told of yet.
    pub(crate) fn facts(&self) -> Option<Box<tls::Facts>> {
        self.secure.as_ref().map(|secure| Box::new(secure.session.facts()))
    }

    /// Tells of a TLS connection that has been quiet for long, and of calls that go on for long; whether it is to be asked again.
    pub(crate) fn settle(&mut self, now: Timestamp, views: &mut Vec<View>) -> bool {
        if self.secure.as_ref().is_some_and(|secure| secure.is_due(now)) {
            self.tell_secure(views);
        }
        if let Some(multiplex) = &mut self.multiplex {
            multiplex.settle(now, views);
        }
        self.secure.is_some() || self.multiplex.is_some()
    }

    /// Whether it is HTTP/2, as the kernel tells it.
    pub(crate) fn is_multiplexed(&self) -> bool {
        self.multiplex.is_some() && !self.complete
    }

    /// Whether what was seen so far is enough to read what is to come. Of HTTP/2 that is not so where what its heads refer to was
    /// missed.
    pub(crate) fn reads_all(&self) -> bool {
        self.multiplex.as_ref().is_none_or(|multiplex| !multiplex.lost)
    }
}
