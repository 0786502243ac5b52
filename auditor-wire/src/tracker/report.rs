//! From a view to an [`Observation`]: both ends named as far as they are on this node, with what is known of TLS.

use crate::exchange::{End, Exchange, Observation, Protocol, Reporter};
use crate::segment::{Direction, Endpoints, Owner, SocketId};
use crate::tls;
use crate::tracker::identity::Identity;
use crate::tracker::pairing::ExchangeView;
use crate::tracker::view::{ConnectionView, Spoken};
use crate::tracker::{Entry, State, Tracker};

impl Tracker {
    /// Who reports what a socket sees.
    pub(super) fn reporter(&self, id: SocketId) -> Reporter {
        reporter(self.identity(id).and_then(|identity| identity.client))
    }

    pub(super) fn emit(&self, id: SocketId, view: Box<ExchangeView>, deliver: &mut dyn FnMut(Observation)) {
        let Some(identity) = self.identity(id) else { return };
        let reporter = reporter(identity.client);
        let (source, destination, wire) = self.ends(identity, reporter, view.request_sequence, view.sender);
        let view = *view;
        deliver(Observation::Exchange(Exchange {
            reporter,
            source,
            destination,
            wire,
            time: view.time,
            request: view.request,
            response: view.response,
            duration: view.duration,
            unknown: view.unknown,
            deviations: view.deviations,
            tls: self.tls_of(id),
            passed_over: view.passed_over,
            repeatable: view.lone.filter(|_| self.tells_alone(id)),
        }));
    }

    /// Whether what a socket tells is told by no other: it carries calls in clear, and its other end is elsewhere, or spared.
    fn tells_alone(&self, id: SocketId) -> bool {
        let state = |id| self.table.get(id).map(|entry| &entry.state);
        let live = matches!(state(id), Some(State::Live(connection)) if !connection.complete);
        let told_twice = self.twin_of(id).is_some_and(|twin| matches!(state(twin), Some(State::Live(_))));
        live && !told_twice && !id.is_plaintext() && !id.is_unix()
    }

    /// What is known of the TLS connection that carries calls which were read inside it; `None` for calls in clear.
    fn tls_of(&self, id: SocketId) -> Option<Box<tls::Facts>> {
        if !id.is_plaintext() {
            return None;
        }
        let Some(entry) = self.table.get(id.carrier()) else { return Some(Box::default()) };
        let under_way = || match &entry.state {
            State::Live(connection) => connection.facts(),
            State::Spared(_) | State::Ended(..) => None,
        };
        let mut facts = entry.facts.clone().or_else(under_way).unwrap_or_default();
        if let Some(proof) = entry.proof {
            facts.prove(proof);
        }
        Some(facts)
    }

    /// Keeps what is said of a TLS connection, for calls read inside it at either end.
    fn keep_facts(&mut self, id: SocketId, facts: &tls::Facts) {
        let twin = self.twin_of(id);
        for id in [Some(id), twin].into_iter().flatten() {
            if let Some(entry) = self.table.get_mut(id) {
                entry.facts = Some(Box::new(facts.clone()));
            }
        }
    }

    /// Calls inside TLS are judged before the connection's view is reported: what is known by now is kept for them. The
    /// destination's view is the one that is reported, so it is concluded, once.
    pub(super) fn conclude_early(&mut self, id: SocketId, view: &mut ConnectionView) {
        let Spoken::Tls(session) = &view.spoken else { return };
        if view.client == Direction::Egress {
            let facts = Box::new(session.facts());
            if let Some(entry) = self.table.get_mut(id) {
                entry.facts.get_or_insert(facts);
            }
            return;
        }
        let Some(&Identity { endpoints, netns, .. }) = self.identity(id) else { return };
        let endpoint = tls::Endpoint { address: endpoints.local, netns };
        let facts = self.endpoints.conclude(endpoint, session, view.time);
        self.keep_facts(id, &facts);
        view.spoken = Spoken::Plain(Protocol::Tls(Box::new(facts)));
    }

    pub(super) fn emit_connection(&mut self, id: SocketId, view: ConnectionView, deliver: &mut dyn FnMut(Observation)) {
        let Some(identity) = self.identity(id) else { return };
        let reporter = reporter(Some(view.client));
        let (source, destination, wire) = self.ends(identity, reporter, None, None);
        let mut protocol = match view.spoken {
            Spoken::Plain(protocol) => protocol,
            Spoken::Tls(session) => {
                let endpoint = tls::Endpoint { address: destination.address, netns: destination.netns };
                Protocol::Tls(Box::new(self.endpoints.conclude(endpoint, &session, view.time)))
            }
        };
        if let Protocol::Tls(facts) = &mut protocol {
            let ends = [Some(id), self.twin_of(id)].into_iter().flatten();
            if let Some(proof) = ends.filter_map(|end| self.table.get(end)?.proof).next() {
                facts.prove(proof);
            }
            if self.limits.tls_plaintext {
                self.keep_facts(id, facts);
            }
        }
        deliver(Observation::Connection(Box::new(crate::exchange::Connection {
            reporter,
            source,
            destination,
            wire,
            time: view.time,
            protocol,
        })));
    }

    /// The two ends of a connection, as far as they are on this node, and its addresses on the wire from the source's side.
    fn ends(
        &self,
        me: &Identity,
        reporter: Reporter,
        request: Option<u32>,
        sender: Option<Owner>,
    ) -> (End, End, Endpoints) {
        // What is inside TLS may be read at one end alone: its packets know the other as well.
        let twin = self.twin_of(me.id).or_else(|| self.twin_of(me.id.carrier()));
        let twin = twin.and_then(|twin| self.identity(twin));
        let here = End {
            address: me.endpoints.local,
            socket: Some(me.id.carrier()),
            owner: me.owner,
            cgroup: me.cgroup,
            netns: me.netns,
        };
        let there = End {
            address: me.endpoints.remote,
            socket: twin.map(|twin| twin.id.carrier()),
            owner: twin.and_then(|twin| twin.owner),
            cgroup: twin.and_then(|twin| twin.cgroup),
            netns: twin.and_then(|twin| twin.netns),
        };
        match reporter {
            Reporter::Source => (End { owner: sender.or(here.owner), ..here }, there, me.wire(Direction::Egress)),
            Reporter::Destination => {
                let sender = twin.and_then(|twin| match self.table.get(twin.id) {
                    Some(Entry { state: State::Live(connection), .. })
                        if twin.id.is_plaintext() == me.id.is_plaintext() =>
                    {
                        connection.sender_of(request)
                    }
                    _ => twin.owner,
                });
                (End { owner: sender, ..there }, here, me.wire(Direction::Ingress).reversed())
            }
        }
    }
}

/// Who reports, by which way the client's bytes go.
fn reporter(client: Option<Direction>) -> Reporter {
    match client {
        Some(Direction::Egress) => Reporter::Source,
        Some(Direction::Ingress) | None => Reporter::Destination,
    }
}
