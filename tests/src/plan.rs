//! The calls of an oracle run and what must be said of each. The same every time.

use std::net::SocketAddr;

use crate::{
    clients::{Call, ClientKind, Mode},
    credential::{Proof, canary},
    servers::ServerKind,
};

use ClientKind as C;
use ServerKind as S;

/// A call and all that must be said of it.
#[derive(Clone, Debug)]
pub struct Planned {
    /// What the client does.
    pub call: Call,
    /// Who calls.
    pub client: ClientKind,
    /// Who is called.
    pub server: ServerKind,
    /// The status the client must see.
    pub status: u16,
    /// The records that must come: one, or two when nginx passes the call on.
    pub expected: Vec<Expected>,
}

/// Who made a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// The client.
    Client,
    /// The server that was called passed it on.
    Proxy,
}

/// What must be said of one exchange.
#[derive(Clone, Debug)]
pub struct Expected {
    /// Path; unique in the run.
    pub path: String,
    /// Method.
    pub method: &'static str,
    /// Status.
    pub status: u16,
    /// Kinds of credential.
    pub credentials: Vec<&'static str>,
    /// Verdict.
    pub verdict: &'static str,
    /// Outcome.
    pub outcome: &'static str,
    /// Rules that fire, sorted.
    pub findings: Vec<&'static str>,
    /// What will do instead.
    pub tolerance: Tolerance,
    /// Who made it.
    pub caller: Caller,
    /// Who answered it.
    pub destination: ServerKind,
}

/// What may be said of an exchange instead of all that is true of it. Nothing false, ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tolerance {
    /// Nothing else.
    Exact,
    /// `unknown` for one of these reasons.
    Unknown(&'static [&'static str]),
    /// `unknown` for any reason, also without its request or its response: a head stands where none is looked for.
    Hidden,
    /// Records are being lost: `unknown` for any reason, no response, no process, nothing at all, or both ends.
    Lossy,
}

/// A kind of call.
struct Shape {
    /// First part of the path, slashes included.
    route: &'static str,
    method: &'static str,
    mode: Mode,
    body: usize,
    status: u16,
    /// Bytes of headers that mean nothing.
    padding: usize,
    fits: fn(C, S) -> bool,
}

const fn shape(route: &'static str, method: &'static str, status: u16, fits: fn(C, S) -> bool) -> Shape {
    Shape { route, method, mode: Mode::Plain, body: 0, status, padding: 0, fits }
}

const fn with(mode: Mode, body: usize, shape: Shape) -> Shape {
    Shape { mode, body, ..shape }
}

fn all(_: C, _: S) -> bool {
    true
}

fn nginx(_: C, server: S) -> bool {
    server == S::Nginx
}

fn not_nginx(_: C, server: S) -> bool {
    server != S::Nginx
}

/// Clients that put on the wire what they are told to.
fn raw(client: C, _: S) -> bool {
    matches!(client, C::Python | C::Rust)
}

fn rust(client: C, _: S) -> bool {
    client == C::Rust
}

const SHAPES: &[Shape] = &[
    shape("/open/", "GET", 200, all),
    shape("/guarded/", "GET", 0, all),
    shape("/open/", "HEAD", 200, all),
    with(Mode::Pipeline, 0, shape("/open/", "GET", 200, raw)),
    with(Mode::Pipeline, 0, shape("/guarded/", "GET", 0, raw)),
    with(Mode::Pipeline, 900, shape("/echo/", "POST", 200, raw)),
    with(Mode::Pipeline, 0, shape("/missing/", "HEAD", 404, raw)),
    with(Mode::Plain, 100, shape("/open/", "POST", 200, all)),
    shape("/guarded/", "DELETE", 0, all),
    shape("/via/guarded/", "GET", 0, nginx),
    shape("/via/big/200000/", "GET", 200, nginx),
    shape("/via/chunked/", "GET", 200, nginx),
    with(Mode::Plain, 40_000, shape("/via/echo/", "POST", 200, nginx)),
    with(
        Mode::Plain,
        1_000_000,
        shape("/via/echo/", "POST", 200, |client, server| client != C::Curl && server == S::Nginx),
    ),
    with(Mode::Chunked, 65_536, shape("/via/echo/", "POST", 200, nginx)),
    shape("/small/", "GET", 200, nginx),
    shape("/large/", "GET", 200, nginx),
    shape("/large/", "HEAD", 200, nginx),
    shape("/big/1300000/", "GET", 200, not_nginx),
    shape("/big/10/", "HEAD", 200, not_nginx),
    shape("/forbidden/", "GET", 403, all),
    shape("/missing/", "GET", 404, all),
    with(Mode::Plain, 5_000, shape("/error/", "PUT", 500, all)),
    // Node's HttpClient and Java's take no body away from a 204 or 304; nginx has no route for the latter.
    shape("/empty/", "GET", 204, all),
    shape("/empty/", "DELETE", 204, all),
    shape("/unchanged/", "GET", 304, not_nginx),
    shape("/redirect/", "GET", 302, all),
    shape("/cors/", "GET", 200, all),
    shape("/chunked/", "GET", 200, not_nginx),
    shape("/chunked/", "HEAD", 200, not_nginx),
    // nginx answers without reading the body; see `Planner::hidden`.
    with(Mode::Plain, 40_000, shape("/echo/", "POST", 200, not_nginx)),
    with(
        Mode::Plain,
        1_000_000,
        shape("/echo/", "POST", 200, |client, server| client != C::Curl && server != S::Nginx),
    ),
    // The Rust client sends chunk extensions and trailers, which Java's server refuses.
    with(
        Mode::Chunked,
        65_536,
        shape("/echo/", "POST", 200, |client, server| server != S::Nginx && (client != C::Rust || server != S::Java)),
    ),
    with(Mode::Expect, 3_000, shape("/echo/", "PUT", 200, |client, server| client != C::Python && server != S::Nginx)),
    shape("/open/", "OPTIONS", 200, all),
    with(Mode::Plain, 12, shape("/guarded/", "PATCH", 0, all)),
    shape("/open/", "PROPFIND", 200, all),
    shape("/open/", "AUDIT-THIS", 200, |_, server| server != S::Node),
    shape("/hints/", "GET", 200, |client, server| {
        matches!(client, C::Node | C::Go | C::Curl | C::Rust) && matches!(server, S::Python | S::Node | S::Go)
    }),
    with(Mode::Http10, 0, shape("/open/", "GET", 200, |client, _| client == C::Curl)),
    with(Mode::Absolute, 0, shape("/guarded/", "GET", 0, raw)),
    with(Mode::Bytes, 0, shape("/guarded/", "GET", 0, raw)),
    with(Mode::Bytes, 30, shape("/echo/", "POST", 200, raw)),
    // Node and Java do not read lines that end in LF alone.
    with(
        Mode::BareLf,
        0,
        shape("/guarded/", "GET", 0, |client, server| raw(client, server) && !matches!(server, S::Node | S::Java)),
    ),
    with(Mode::Uring, 0, shape("/guarded/", "GET", 0, rust)),
    with(
        Mode::Uring,
        70_000,
        shape("/echo/", "POST", 200, |client, server| rust(client, server) && server != S::Nginx),
    ),
    with(Mode::Uring, 0, shape("/missing/", "GET", 404, rust)),
    with(Mode::Sendfile, 0, shape("/guarded/", "GET", 0, rust)),
    with(Mode::Splice, 0, shape("/guarded/", "GET", 0, rust)),
    with(Mode::Sendfile, 9_000, shape("/echo/", "POST", 200, rust)),
    Shape { padding: 1_900, ..shape("/guarded/", "GET", 0, all) },
    Shape { padding: 7_600, ..shape("/guarded/", "GET", 0, all) },
    Shape { padding: 18_000, ..shape("/guarded/", "GET", 0, all) },
    shape("/close/", "GET", 200, |_, server| server != S::Nginx),
    with(
        Mode::Upgrade,
        0,
        shape("/upgrade/", "GET", 101, |client, server| {
            matches!(client, C::Node | C::Go | C::Rust) && matches!(server, S::Python | S::Node | S::Go)
        }),
    ),
    // Two framings in one request: the servers that answer it at all read the chunks.
    with(
        Mode::LengthAndChunked,
        40,
        shape("/echo/", "POST", 200, |client, server| client == C::Rust && server == S::Go),
    ),
];

/// Lays out a run: from each client to each target `connections` connections with `calls` calls each, and requests split at
/// every offset.
#[derive(Debug)]
pub struct Planner {
    backend: ServerKind,
    /// Tells the calls of this run from those of others on the machine.
    run: String,
    count: usize,
    planned: Vec<Planned>,
}

impl Planner {
    /// A planner that knows which server nginx passes calls on to.
    #[must_use]
    pub fn new(backend: ServerKind) -> Self {
        Self { backend, run: canary()[..6].to_owned(), count: 0, planned: Vec::new() }
    }

    /// All calls so far.
    #[must_use]
    pub fn planned(self) -> Vec<Planned> {
        self.planned
    }

    /// Mixed calls from a client to a server.
    pub fn mix(
        &mut self,
        client: ClientKind,
        server: ServerKind,
        target: SocketAddr,
        connections: usize,
        calls: usize,
    ) {
        let shapes: Vec<&Shape> = SHAPES.iter().filter(|shape| (shape.fits)(client, server)).collect();
        for index in 0..connections * calls {
            // Each target begins elsewhere in the list, so that few calls, too, cover it over all targets.
            let shape = shapes[(index + usize::from(target.is_ipv6()) * connections * calls) % shapes.len()];
            let group = format!("{client}-{server}-{}-{}", if target.is_ipv6() { 6 } else { 4 }, index / calls);
            self.add(client, server, target, &group, shape, None);
        }
    }

    /// The same request split in two writes at every offset.
    pub fn splits(&mut self, client: ClientKind, server: ServerKind, target: SocketAddr) {
        for at in 1..160 {
            let shape = with(Mode::Split(at), 5, shape("/guarded/", "POST", 0, all));
            self.add(client, server, target, &format!("{client}-{server}-{target}-splits"), &shape, None);
        }
    }

    /// One call with every kind of credential to a guarded route.
    pub fn proofs(&mut self, client: ClientKind, server: ServerKind, target: SocketAddr) {
        for proof in Proof::ALL {
            let shape = shape("/guarded/", "GET", 0, all);
            self.add(client, server, target, &format!("{client}-{server}-{target}-proofs"), &shape, Some(proof));
        }
    }

    /// Calls whose head begins behind the end of a body in the middle of a segment: after a body that was answered before it
    /// was read, and pipelined behind large answers.
    pub fn hidden(&mut self, client: ClientKind, server: ServerKind, target: SocketAddr, rounds: usize) {
        let first = self.planned.len();
        let early = [
            with(Mode::Plain, 1_000_000, shape("/echo/", "POST", 200, all)),
            with(Mode::Plain, 0, shape("/guarded/", "GET", 0, all)),
            with(Mode::Plain, 30_000, shape("/guarded/", "POST", 0, all)),
        ];
        let pipelined = [
            with(Mode::Pipeline, 0, shape("/big/300000/", "GET", 200, all)),
            with(Mode::Pipeline, 0, shape("/guarded/", "GET", 0, all)),
            with(Mode::Pipeline, 0, shape("/missing/", "GET", 404, all)),
            with(Mode::Plain, 0, shape("/guarded/", "DELETE", 0, all)),
        ];
        let shapes = if server == S::Nginx { &early[..] } else { &pipelined[..] };
        for round in 0..rounds {
            for shape in shapes {
                self.add(client, server, target, &format!("{client}-{server}-hidden-{}", round % 4), shape, None);
            }
        }
        self.tolerate(first, Tolerance::Hidden);
    }

    /// Tolerates more of all calls so far.
    pub fn tolerate_losses(&mut self) {
        self.tolerate(0, Tolerance::Lossy);
    }

    fn tolerate(&mut self, first: usize, tolerance: Tolerance) {
        for expected in self.planned[first..].iter_mut().flat_map(|planned| &mut planned.expected) {
            expected.tolerance = tolerance;
        }
    }

    fn add(&mut self, client: C, server: S, target: SocketAddr, group: &str, shape: &Shape, proof: Option<Proof>) {
        self.count += 1;
        let id = format!("{}x{:05}", self.run, self.count);
        // Every third call proves nothing; the others go through the kinds, and all kinds meet all shapes.
        let turn = self.count * 5 % Proof::ALL.len();
        let proof = proof.unwrap_or(if self.count.is_multiple_of(3) { Proof::None } else { Proof::ALL[turn] });
        let path = format!("{}{id}", shape.route);
        let sent = proof.send(&canary(), shape.method, &path);
        let query = sent.query.map(|query| format!("?{query}")).unwrap_or_default();
        // Four headers, none above what servers take in one line; before the credential, so that it is what is cut off.
        let padding =
            (0..4).filter(|_| shape.padding > 0).map(|n| (format!("X-Padding-{n}"), "p".repeat(shape.padding / 4)));
        let call = Call {
            group: format!("{group}-{}", transport(client, shape.mode)),
            address: target,
            mode: shape.mode,
            method: shape.method,
            target: format!("{path}{query}"),
            body: shape.body,
            headers: padding.chain(sent.headers).collect(),
            id,
        };
        let status = match shape.status {
            0 if proof.opens_guarded() => 200,
            0 => 401,
            status => status,
        };
        let expected = Expected {
            path,
            method: shape.method,
            status,
            credentials: proof.kind().into_iter().collect(),
            verdict: verdict(proof),
            outcome: outcome(status),
            findings: findings(proof, shape.route, status),
            tolerance: tolerance(shape),
            caller: Caller::Client,
            destination: server,
        };
        let behind = expected.path.strip_prefix("/via").map(|path| Expected {
            path: path.to_owned(),
            caller: Caller::Proxy,
            destination: self.backend,
            ..expected.clone()
        });
        let expected = [expected].into_iter().chain(behind).collect();
        self.planned.push(Planned { call, client, server, status, expected });
    }
}

/// Calls that need another kind of connection go in groups of their own.
fn transport(client: ClientKind, mode: Mode) -> &'static str {
    match (client, mode) {
        (C::Python, Mode::Plain | Mode::Chunked) => "library",
        (_, Mode::Uring) => "uring",
        // curl takes the connection for kept, servers may close it: then it makes the next call twice.
        (C::Curl, Mode::Http10) => "old",
        // What follows it on its connection may be read in two ways.
        (_, Mode::LengthAndChunked) => "ambiguous",
        _ => "socket",
    }
}

fn verdict(proof: Proof) -> &'static str {
    match proof {
        Proof::None => "unauthenticated",
        _ if proof.findings().is_empty() => "authenticated",
        _ => "weak",
    }
}

fn outcome(status: u16) -> &'static str {
    match status {
        ..=399 => "accepted",
        401 | 403 | 407 => "refused",
        _ => "failed",
    }
}

fn findings(proof: Proof, route: &str, status: u16) -> Vec<&'static str> {
    let mut findings = proof.findings().to_vec();
    // A call that failed for another reason was not refused either: nobody asked who makes it.
    if proof == Proof::None && outcome(status) != "refused" {
        findings.push("unauthenticated-call");
    }
    if route == "/cors/" {
        findings.push("cors-on-internal");
    }
    findings.sort_unstable();
    findings
}

fn tolerance(shape: &Shape) -> Tolerance {
    match shape.mode {
        Mode::LengthAndChunked => Tolerance::Unknown(&["malformed"]),
        _ if shape.padding > 8_000 => Tolerance::Unknown(&["head-truncated"]),
        _ => Tolerance::Exact,
    }
}
