//! Ties TLS sessions to sockets and turns their bytes into segments. A pure state machine over packets and records.
//!
//! A session in a process' memory and a socket know each other by the random of the ClientHello: the library keeps it, the wire
//! shows it. Nothing else is as certain: a session need not know its socket, and the thread that encrypts need not be the one
//! that sends. Go's sessions know their socket; there the program tells its cookie.
//!
//! Only sessions that are known from their first byte are followed. The two ends of a connection then count the same sequence
//! numbers, from the same random, and their views are known for the same.

use std::collections::{HashMap, VecDeque};

use auditor_wire::{
    detect::{Guess, guess},
    segment::{Class, Direction, Endpoints, Owner, Segment, SocketId, Timestamp},
    tls::{Progress, Proof},
};

use super::record::{Data, Event, Keyed, Keys, Link, Peer, Record, Role};

/// Where the random lies in a record with a ClientHello: behind the record's header, the message's and the version
/// (RFC 8446 sections 5.1, 4 and 4.1.2).
const RANDOM: std::ops::Range<usize> = 11..43;
/// How long after its connection a session may still be read.
const LINGER_NS: u64 = 2_000_000_000;
/// How long after a request, whose answer the kernel does not decrypt, the connection's other end may still show itself.
const OTHER_END_NS: u64 = 2_000_000_000;
/// `GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR` (gnutls/gnutls.h).
const GNUTLS_UNTRUSTED: i32 = -348;
/// `GNUTLS_E_CERTIFICATE_ERROR`: what GnuTLS returns where a program's own callback refuses.
const GNUTLS_CERTIFICATE: i32 = -43;
/// `GNUTLS_E_CERTIFICATE_REQUIRED`: the client gave none.
const GNUTLS_REQUIRED: i32 = -112;

/// Why records are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LeftOut {
    /// The beginning of the connection was not seen, or the session is on no socket.
    Unlinked,
    /// The connection began before the library was attached to.
    BeforeAttached,
    /// Another session was read on the same socket.
    SecondSession,
    /// What the session carries is not HTTP.
    NotHttp,
    /// The kernel does the TLS, but was not given the keys of the requests before the first of them.
    WithoutKeys,
}

/// What is known of the sockets that carry TLS.
pub struct Sessions {
    limit: usize,
    sockets: HashMap<SocketId, Socket>,
    /// Oldest first.
    order: VecDeque<SocketId>,
    randoms: HashMap<[u8; 32], Ends>,
    /// Sockets whose connection has ended: when to end their sessions.
    ended: VecDeque<(Timestamp, SocketId)>,
    /// Sockets with requests whose answers are not seen: when to tell of them.
    unseen: VecDeque<(Timestamp, SocketId)>,
    left_out: [u64; LeftOut::ALL.len()],
}

/// The sockets of this node that saw one ClientHello.
#[derive(Clone, Copy, Default)]
struct Ends {
    client: Option<SocketId>,
    server: Option<SocketId>,
}

struct Socket {
    random: [u8; 32],
    role: Role,
    began: Timestamp,
    wire: Endpoints,
    endpoints: Endpoints,
    owner: Option<Owner>,
    cgroup: Option<u64>,
    netns: Option<u32>,
    session: Option<Session>,
    /// What the library told so far.
    proof: Proof,
}

/// The session that is read on a socket.
#[derive(Clone, Copy)]
struct Session {
    object: u64,
    tgid: u32,
    born_ns: u64,
    owner: Owner,
    /// It carries HTTP as far as is known; `None` until bytes tell.
    http: Option<bool>,
    /// Bytes so far, by direction.
    next: [u32; 2],
    /// Where the kernel does the TLS: which keys it has.
    keys: Option<Keys>,
    /// There are requests of which nobody told yet that their answers are not seen.
    unseen: bool,
}

impl Session {
    /// Nothing that passes this way is seen: the kernel has no keys of it.
    fn is_blind(&self, direction: Direction) -> bool {
        self.keys.is_some_and(|keys| keys.of(direction) == Keyed::Never)
    }
}

impl LeftOut {
    /// Every reason.
    pub const ALL: [Self; 5] =
        [Self::Unlinked, Self::BeforeAttached, Self::SecondSession, Self::NotHttp, Self::WithoutKeys];

    /// The `reason` label in `auditor_capture_ignored_total`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unlinked => "plaintext-unlinked",
            Self::BeforeAttached => "plaintext-before-attached",
            Self::SecondSession => "plaintext-second-session",
            Self::NotHttp => "plaintext-not-http1",
            Self::WithoutKeys => "plaintext-without-keys",
        }
    }
}

impl Sessions {
    /// Remembers up to `limit` sockets.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            sockets: HashMap::new(),
            order: VecDeque::new(),
            randoms: HashMap::new(),
            ended: VecDeque::new(),
            unseen: VecDeque::new(),
            left_out: [0; LeftOut::ALL.len()],
        }
    }

    /// Records that were left out, by reason.
    pub fn left_out(&self) -> impl Iterator<Item = (&'static str, u64)> {
        LeftOut::ALL.into_iter().map(|reason| (reason.as_str(), self.left_out[reason as usize]))
    }

    /// Looks at a packet: a ClientHello ties its random to the socket.
    pub fn packet(&mut self, segment: &Segment<'_>) {
        if let Some(random) = client_random(segment.payload) {
            self.hello(random, segment);
        } else if let Some(socket) = self.sockets.get_mut(&segment.socket) {
            socket.owner = segment.owner.or(socket.owner);
        }
        if (segment.fin || segment.rst) && self.sockets.get(&segment.socket).is_some_and(|it| it.session.is_some()) {
            self.ended.push_back((Timestamp(segment.time.0.saturating_add(LINGER_NS)), segment.socket));
        }
    }

    fn hello(&mut self, random: [u8; 32], segment: &Segment<'_>) {
        // A second one follows a HelloRetryRequest; it has the same random.
        if self.sockets.get(&segment.socket).is_some_and(|socket| socket.random == random) {
            return;
        }
        self.forget(segment.socket);
        while self.sockets.len() >= self.limit {
            let Some(oldest) = self.order.pop_front() else { break };
            self.forget(oldest);
        }
        let ends = self.randoms.entry(random).or_default();
        let role = match segment.direction {
            Direction::Egress => Role::Client,
            Direction::Ingress => Role::Server,
        };
        match role {
            Role::Client => ends.client = Some(segment.socket),
            Role::Server => ends.server = Some(segment.socket),
        }
        self.order.push_back(segment.socket);
        self.sockets.insert(
            segment.socket,
            Socket {
                random,
                role,
                began: segment.time,
                wire: segment.wire,
                endpoints: segment.endpoints,
                owner: segment.owner,
                cgroup: segment.cgroup,
                netns: segment.netns,
                session: None,
                proof: Proof::default(),
            },
        );
        // What was forgotten on another path is still in line.
        if self.order.len() > self.limit.saturating_mul(2) {
            self.order.retain(|socket| self.sockets.contains_key(socket));
        }
    }

    fn forget(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.remove(&id) else { return };
        if let Some(ends) = self.randoms.get_mut(&socket.random) {
            ends.client = ends.client.filter(|client| *client != id);
            ends.server = ends.server.filter(|server| *server != id);
            if ends.client.is_none() && ends.server.is_none() {
                self.randoms.remove(&socket.random);
            }
        }
    }

    /// What is known of the client's certificate, when a record tells something new of it, and the socket of the packets that the
    /// session is on. Bytes pass once the handshake is done.
    pub fn proof(&mut self, record: &Record<'_>) -> Option<(SocketId, Proof)> {
        let id = self.socket_of(record)?;
        let socket = self.sockets.get_mut(&id).filter(|socket| socket.role == Role::Server)?;
        let known = socket.proof;
        match record.event {
            Event::Handshake(result) => handshake(&mut socket.proof, result),
            Event::Verified(peer) => told(&mut socket.proof, peer),
            Event::Refused(peer) => {
                told(&mut socket.proof, peer);
                socket.proof.progress = Progress::Refused;
            }
            Event::Data(data) if known.progress == Progress::UnderWay => {
                told(&mut socket.proof, data.peer);
                socket.proof.progress = Progress::Done;
            }
            Event::Data(_) | Event::End(..) => {}
        }
        (socket.proof != known).then_some((id, socket.proof))
    }

    /// Takes a record. `attached` is when the library was attached to, in the time of segments; `epoch_offset_ns` brings the
    /// record's clock there. What is delivered is of the socket [`SocketId::plaintext`].
    pub fn record(
        &mut self,
        record: &Record<'_>,
        attached: Option<Timestamp>,
        epoch_offset_ns: u64,
        deliver: &mut dyn FnMut(&Segment<'_>),
    ) {
        if matches!(record.event, Event::Handshake(_) | Event::Verified(_) | Event::Refused(_)) {
            return;
        }
        let Some(id) = self.socket_of(record) else { return self.leave_out(LeftOut::Unlinked) };
        let Some(socket) = self.sockets.get_mut(&id) else { return self.leave_out(LeftOut::Unlinked) };
        // The kernel's program tells itself whether it has seen the beginning.
        let late = !matches!(record.link, Link::Kernel(..)) && attached.is_none_or(|attached| socket.began < attached);
        if late {
            return self.leave_out(LeftOut::BeforeAttached);
        }
        let time = Timestamp(record.time_ns.wrapping_add(epoch_offset_ns));
        let taken = match record.event {
            Event::Data(data) => socket.data(id, record, &data, time, deliver).inspect(|()| {
                if socket.begins_unseen() {
                    self.unseen.push_back((Timestamp(time.0.saturating_add(OTHER_END_NS)), id));
                }
            }),
            Event::End(written, read) => socket.end(id, record, [written, read], time, deliver),
            Event::Handshake(_) | Event::Verified(_) | Event::Refused(_) => Ok(()),
        };
        if let Err(reason) = taken {
            self.leave_out(reason);
        }
    }

    /// Ends the sessions of connections that ended before `now`, and tells that answers were not seen.
    pub fn advance(&mut self, now: Timestamp, deliver: &mut dyn FnMut(&Segment<'_>)) {
        while let Some((_, id)) = self.ended.pop_front_if(|(due, _)| *due <= now) {
            if let Some(socket) = self.sockets.get_mut(&id)
                && let Some(session) = socket.session
            {
                socket.finish(id, session.next, now, deliver);
                self.forget(id);
            }
        }
        while let Some((_, id)) = self.unseen.pop_front_if(|(due, _)| *due <= now) {
            let answers_are_shown = self.other_end_shows_answers(id);
            if let Some(socket) = self.sockets.get_mut(&id) {
                socket.tell_unseen(id, answers_are_shown, now, deliver);
            }
        }
    }

    /// Whether the other end of a connection is on this node and its answers are seen there.
    fn other_end_shows_answers(&self, id: SocketId) -> bool {
        let other = self.sockets.get(&id).and_then(|socket| {
            let ends = self.randoms.get(&socket.random)?;
            self.sockets.get(&match socket.role {
                Role::Client => ends.server,
                Role::Server => ends.client,
            }?)
        });
        other.is_some_and(|other| other.session.is_some_and(|session| !session.is_blind(other.requests().opposite())))
    }

    fn leave_out(&mut self, reason: LeftOut) {
        self.left_out[reason as usize] += 1;
    }

    /// The role that a session is known by. Of what follows a first call of HTTP/2 nothing else tells.
    fn role_of_session(&self, record: &Record<'_>, ends: Ends) -> Option<Role> {
        let named = (record.object, record.owner.tgid, record.born_ns);
        let is_on = |id: SocketId| {
            let session = self.sockets.get(&id).and_then(|socket| socket.session);
            session.is_some_and(|session| (session.object, session.tgid, session.born_ns) == named)
        };
        match (ends.client.is_some_and(is_on), ends.server.is_some_and(is_on)) {
            (true, false) => Some(Role::Client),
            (false, true) => Some(Role::Server),
            _ => None,
        }
    }

    /// The socket of a session: of the two ends that saw one ClientHello, that of the session's own role.
    fn socket_of(&self, record: &Record<'_>) -> Option<SocketId> {
        let random = match record.link {
            Link::Nothing => return None,
            Link::Socket(id) | Link::Kernel(id, _) => return Some(id),
            Link::Random(random) => random,
        };
        let ends = self.randoms.get(&random)?;
        let known = || self.role_of_session(record, *ends);
        let role = record.role.or_else(|| role_of(record)).or_else(known).or_else(|| {
            // The client's process is known since its hello.
            let client = self.sockets.get(&ends.client?)?.owner?;
            Some(if client.tgid == record.owner.tgid { Role::Client } else { Role::Server })
        });
        match (role, ends.client, ends.server) {
            (Some(Role::Client), client, _) => client,
            (Some(Role::Server), _, server) => server,
            // The other end is elsewhere.
            (None, Some(only), None) | (None, None, Some(only)) => Some(only),
            (None, ..) => None,
        }
    }
}

impl Socket {
    fn data(
        &mut self,
        id: SocketId,
        record: &Record<'_>,
        data: &Data<'_>,
        time: Timestamp,
        deliver: &mut dyn FnMut(&Segment<'_>),
    ) -> Result<(), LeftOut> {
        let index = usize::from(data.direction == Direction::Ingress);
        let keys = match record.link {
            Link::Kernel(_, keys) => Some(keys),
            _ => None,
        };
        if keys.is_some_and(|keys| keys.of(self.requests()) != Keyed::FromBeginning) {
            return Err(LeftOut::WithoutKeys);
        }
        let new = Session {
            object: record.object,
            // What the kernel does is the socket's, whichever process uses it.
            tgid: if keys.is_some() { 0 } else { record.owner.tgid },
            born_ns: record.born_ns,
            owner: record.owner,
            http: None,
            next: [0; 2],
            keys,
            unseen: false,
        };
        let session = self.session.get_or_insert(new);
        if (session.object, session.tgid, session.born_ns) != (new.object, new.tgid, new.born_ns) {
            return Err(LeftOut::SecondSession);
        }
        session.next[index] = data.offset.wrapping_add(data.length);
        session.keys = keys;
        if session.http.is_none() {
            session.http = match guess(data.payload) {
                _ if data.class == Class::Other || data.muted => Some(false),
                Guess::Request | Guess::Response | Guess::Http2 => Some(true),
                // The head is longer than one write.
                Guess::More if !data.payload.is_empty() => None,
                _ => Some(false),
            };
        }
        if session.http == Some(false) {
            return Err(LeftOut::NotHttp);
        }
        let session = *session;
        let sequence = self.first(data.direction).wrapping_add(data.offset);
        deliver(&Segment {
            sequence,
            length: data.length,
            payload: data.payload,
            class: data.class,
            gap: data.gap,
            ..self.segment(id, &session, data.direction, time)
        });
        Ok(())
    }

    fn end(
        &mut self,
        id: SocketId,
        record: &Record<'_>,
        bytes: [u32; 2],
        time: Timestamp,
        deliver: &mut dyn FnMut(&Segment<'_>),
    ) -> Result<(), LeftOut> {
        match self.session {
            Some(session) if session.born_ns == record.born_ns && session.object == record.object => {
                self.finish(id, bytes, time, deliver);
                Ok(())
            }
            _ => Err(LeftOut::SecondSession),
        }
    }

    /// Nothing follows, in either direction.
    fn finish(&self, id: SocketId, bytes: [u32; 2], time: Timestamp, deliver: &mut dyn FnMut(&Segment<'_>)) {
        let Some(session) = self.session.filter(|session| session.http == Some(true)) else { return };
        let told = [Direction::Egress, Direction::Ingress].into_iter().zip(bytes).zip(session.next);
        for ((direction, bytes), next) in told {
            let gap = session.is_blind(direction);
            let sequence = self.first(direction).wrapping_add(if gap { next.wrapping_add(1) } else { bytes });
            deliver(&Segment { sequence, fin: true, gap, ..self.segment(id, &session, direction, time) });
        }
    }

    /// Whether requests wait since now whose answers are not seen at this end.
    fn begins_unseen(&mut self) -> bool {
        let answers = self.requests().opposite();
        let Some(session) = self.session.as_mut().filter(|session| session.is_blind(answers)) else { return false };
        !std::mem::replace(&mut session.unseen, true)
    }

    /// Tells of a gap where answers pass that are not seen, unless the other end shows them: then it tells of the calls.
    fn tell_unseen(&mut self, id: SocketId, shown: bool, time: Timestamp, deliver: &mut dyn FnMut(&Segment<'_>)) {
        let answers = self.requests().opposite();
        let Some(session) = self.session.as_mut() else { return };
        session.unseen = false;
        if shown || !session.is_blind(answers) {
            return;
        }
        // A byte that is missing stands for all of them, and one shows that it is.
        let next = &mut session.next[usize::from(answers == Direction::Ingress)];
        let sequence = next.wrapping_add(1);
        *next = sequence.wrapping_add(1);
        let session = *session;
        let sequence = self.first(answers).wrapping_add(sequence);
        deliver(&Segment { sequence, length: 1, gap: true, ..self.segment(id, &session, answers, time) });
    }

    /// The direction that requests go.
    fn requests(&self) -> Direction {
        if self.role == Role::Client { Direction::Egress } else { Direction::Ingress }
    }

    /// A segment without bytes.
    fn segment(&self, id: SocketId, session: &Session, direction: Direction, time: Timestamp) -> Segment<'static> {
        Segment {
            time,
            socket: id.plaintext(),
            direction,
            wire: self.wire,
            endpoints: self.endpoints,
            sequence: 0,
            syn: false,
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
            owner: Some(session.owner),
            cgroup: self.cgroup,
            netns: self.netns,
        }
    }

    /// The sequence number of a direction's first byte: from the random, so that both ends have the same.
    fn first(&self, direction: Direction) -> u32 {
        let from_client = (self.role == Role::Client) == (direction == Direction::Egress);
        let [a, b, c, d, e, f, g, h, ..] = self.random;
        u32::from_be_bytes(if from_client { [a, b, c, d] } else { [e, f, g, h] })
    }
}

/// The role that calls tell.
fn role_of(record: &Record<'_>) -> Option<Role> {
    let Event::Data(data) = record.event else { return None };
    let greets = data.payload.starts_with(b"PRI * HTTP/2.0");
    match (data.direction, data.class) {
        (Direction::Egress, Class::Http2) if greets => Some(Role::Client),
        (Direction::Ingress, Class::Http2) if greets => Some(Role::Server),
        (Direction::Egress, Class::Request) | (Direction::Ingress, Class::Response) => Some(Role::Client),
        (Direction::Ingress, Class::Request) | (Direction::Egress, Class::Response) => Some(Role::Server),
        _ => None,
    }
}

/// Adds what a library knows of the client's certificate.
fn told(proof: &mut Proof, peer: Peer) {
    proof.presented = peer.presented.or(proof.presented);
    proof.good = peer.result.map(|result| result == 0).or(proof.good);
}

/// Adds what the result of a server's `gnutls_handshake` says. A program's callback may refuse a client that gave none, too.
fn handshake(proof: &mut Proof, result: i32) {
    match result {
        0 => proof.progress = Progress::Done,
        GNUTLS_UNTRUSTED | GNUTLS_CERTIFICATE => proof.progress = Progress::Refused,
        GNUTLS_REQUIRED => *proof = Proof { presented: Some(false), good: None, progress: Progress::Refused },
        _ => {}
    }
}

/// The random of a ClientHello that begins `payload`.
fn client_random(payload: &[u8]) -> Option<[u8; 32]> {
    match payload {
        [0x16, 3, 0..=4, _, _, 1, ..] => payload.get(RANDOM)?.try_into().ok(),
        _ => None,
    }
}
