//! What the wire yields: an [`Exchange`] for each call, a [`Connection`] for each connection that holds no readable calls.

use std::time::Duration;

use zeroize::Zeroizing;

use crate::buffer::SecretBuffer;
use crate::segment::{Endpoints, Owner, SocketId, Timestamp};
use crate::tls;

/// What comes out of the tracker.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it is passed on at once, and nearly all of them are exchanges")]
pub enum Observation {
    /// One request and its response.
    Exchange(Exchange),
    /// A connection without readable exchanges.
    Connection(Box<Connection>),
}

/// The end of the connection that was observed, as in Istio's metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reporter {
    /// The end that sends requests.
    Source,
    /// The end that answers them.
    Destination,
}

/// Why a call or a connection cannot be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum UnknownReason {
    /// The head was longer than what is copied of it.
    HeadTruncated,
    /// Bytes of the head were lost between the kernel and the parser.
    Gap,
    /// A response was seen and its request was sent before the observation began.
    MidStream,
    /// An earlier call authenticated the connection, so that later ones carry nothing (NTLM).
    ConnectionAuthenticated,
    /// Application data is encrypted.
    Encrypted,
    /// A resumed TLS session: what the client proved, it proved in an earlier connection.
    ResumedTls,
    /// The wire does not tell what the client proved at the TLS layer, or whether that was accepted.
    UndeterminedTls,
    /// Header fields that stand in a part of HPACK's table which is not known (RFC 7541 section 2.3).
    HpackLost,
    /// HTTP/2 whose frames could not be followed.
    Http2,
    /// The head is not HTTP, or not in a way that all servers would read the same.
    Malformed,
    /// A protocol that is not read.
    UnreadProtocol,
    /// The tracker was at its memory limit.
    Capacity,
    /// A call over an `AF_UNIX` socket that held no credential: the kernel tells the server who connected (`SO_PEERCRED`, unix(7)) and
    /// asks the socket's file who may; whether the server looks is not visible.
    PeerCredentials,
}

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Address and port, as the reporter's socket has them.
    pub address: std::net::SocketAddr,
    /// The socket on this node, when this end is on it.
    pub socket: Option<SocketId>,
    /// Owner of the socket, when this end is on this node and the kernel told.
    pub owner: Option<Owner>,
    /// cgroup2 inode of the socket, when this end is on this node.
    pub cgroup: Option<u64>,
    /// Network namespace inode, when this end is on this node.
    pub netns: Option<u32>,
}

/// One request and its response on one connection, as one end saw it.
#[derive(Debug)]
pub struct Exchange {
    /// Who reports.
    pub reporter: Reporter,
    /// Who called.
    pub source: End,
    /// Who was called.
    pub destination: End,
    /// Addresses on the wire from the source's side.
    pub wire: Endpoints,
    /// First byte of the request, or of the response when the request was not seen.
    pub time: Timestamp,
    /// The request; `None` when only its response was seen. When `unknown` is set the head may be cut: headers that are there
    /// are true, headers that are not there may have been lost.
    pub request: Option<Request>,
    /// The response; `None` while unanswered.
    pub response: Option<Response>,
    /// First request byte to first response byte; `None` while unanswered.
    pub duration: Option<Duration>,
    /// Set when the head of the request was not seen whole, with the reason.
    pub unknown: Option<UnknownReason>,
    /// Ways in which the message bent the rules.
    pub deviations: Deviations,
    /// What is known of the TLS connection that carried it, when it was read above TLS; `None` for a call in clear.
    pub tls: Option<Box<tls::Facts>>,
    /// Calls of its connection that were passed over since the one before it, each the same, byte for byte, as one that was seen.
    pub passed_over: u32,
    /// Its request was all that a segment of its socket carried, and no other socket tells of it: a source may pass over those that
    /// repeat it, which it knows by this.
    pub repeatable: Option<u64>,
}

/// A message's head: start line and headers, values still readable. It holds secrets: it is wiped when dropped, its `Debug`
/// shows no value, and it goes no further than credential extraction.
#[derive(Default)]
pub struct Head {
    bytes: SecretBuffer,
    headers: Vec<Field>,
}

/// Where one header stands in [`Head::bytes`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    name: (u32, u32),
    value: (u32, u32),
}

impl Field {
    /// A header by where its name and its value begin and end; `None` beyond 4 GiB.
    #[inline]
    pub(crate) fn new(name: (usize, usize), value: (usize, usize)) -> Option<Self> {
        let range = |(start, end)| Some((u32::try_from(start).ok()?, u32::try_from(end).ok()?));
        Some(Self { name: range(name)?, value: range(value)? })
    }
}

/// A request's head. Its `Debug` shows neither query nor userinfo.
pub struct Request {
    /// `GET`, `POST`, ... A token (RFC 9110 section 5.6.2).
    pub method: Box<str>,
    /// Authority: from absolute-form, CONNECT's target, else the `Host` header; without userinfo. `None` where absent.
    pub authority: Option<Box<str>>,
    /// Path without query and fragment; `*` for asterisk-form, empty for CONNECT. Bytes outside printable ASCII are
    /// percent-encoded.
    pub path: Box<str>,
    /// Query string, without `?`; may hold secrets, hence wiped.
    pub query: Option<Zeroizing<String>>,
    /// Userinfo of an absolute-form target (`user:password@`); a secret.
    pub userinfo: Option<Zeroizing<String>>,
    /// Version of HTTP.
    pub version: Version,
    /// Headers.
    pub head: Head,
    /// TCP sequence number of the head's first byte: equal at both ends of the connection.
    pub sequence: u32,
}

/// A version of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1, by its minor version.
    Http1(u8),
    /// HTTP/2. The head has the form that HTTP/1.1 gives it.
    Http2,
}

/// A response's head.
#[derive(Debug)]
pub struct Response {
    /// Final status code: 1xx other than 101 are passed over.
    pub status: u16,
    /// Headers; empty when the head was cut. Of HTTP/2's trailers `grpc-status` is among them.
    pub head: Head,
    /// TCP sequence number of the head's first byte: equal at both ends of the connection.
    pub sequence: u32,
}

/// Ways in which a message bent the rules, in ways other parties may read differently.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deviations {
    /// A line ended in LF alone.
    pub bare_lf: bool,
    /// Both `Transfer-Encoding` and `Content-Length` (RFC 9112 section 6.1): request smuggling.
    pub length_and_chunked: bool,
    /// `Content-Length` values that differ, or are no number.
    pub conflicting_length: bool,
    /// A `Transfer-Encoding` whose last coding is not `chunked`, or that is obfuscated.
    pub odd_transfer_encoding: bool,
    /// A header line folded over several lines (RFC 9112 section 5.2).
    pub folded_header: bool,
    /// White space between a header's name and its colon.
    pub space_before_colon: bool,
    /// Bytes before the request line other than empty lines.
    pub leading_garbage: bool,
}

/// What a connection without readable exchanges speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TLS, and what the wire shows of it.
    Tls(Box<tls::Facts>),
    /// HTTP/2 of which no call could be read.
    Http2,
    /// An HTTP/1 connection that became something else (101 or CONNECT): the call itself is an [`Exchange`].
    Upgraded,
    /// Not recognised.
    Other,
}

/// A connection without readable exchanges.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Who reports.
    pub reporter: Reporter,
    /// Who connected.
    pub source: End,
    /// Who was connected to.
    pub destination: End,
    /// Addresses on the wire from the source's side.
    pub wire: Endpoints,
    /// First byte seen.
    pub time: Timestamp,
    /// What is spoken.
    pub protocol: Protocol,
}

impl Head {
    /// A head from its bytes and where the headers stand in them: `(name, value)` as start and end offsets.
    ///
    /// Ranges that do not lie inside `bytes` are dropped.
    #[must_use]
    pub fn new(bytes: Vec<u8>, ranges: impl IntoIterator<Item = ((usize, usize), (usize, usize))>) -> Self {
        let inside = |(start, end): &(usize, usize)| start <= end && *end <= bytes.len();
        let ranges = ranges.into_iter();
        let mut headers = Vec::with_capacity(ranges.size_hint().0);
        headers.extend(
            ranges
                .filter(|(name, value)| inside(name) && inside(value))
                .filter_map(|(name, value)| Field::new(name, value)),
        );
        Self { bytes: SecretBuffer::from(bytes), headers }
    }

    /// A head from its bytes and headers that lie inside them.
    pub(crate) fn with_fields(bytes: SecretBuffer, headers: Vec<Field>) -> Self {
        Self { bytes, headers }
    }

    /// Header names and values in the order they came, values without surrounding white space.
    #[inline]
    pub fn headers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.headers.iter().map(|field| (self.slice(field.name), self.slice(field.value)))
    }

    /// Values of one header; the name is compared without case.
    #[inline]
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        // Calls are asked for a dozen headers that most of them do not have: the length tells nearly all names apart.
        let is = move |field: &&Field| {
            field.name.1.wrapping_sub(field.name.0) as usize == name.len()
                && self.slice(field.name).eq_ignore_ascii_case(name.as_bytes())
        };
        self.headers.iter().filter(is).map(|field| self.slice(field.value))
    }

    /// The raw bytes, start line included. Secret.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    #[inline]
    fn slice(&self, (start, end): (u32, u32)) -> &[u8] {
        self.bytes.get(start as usize..end as usize).unwrap_or_default()
    }
}

/// A protocol of remote procedure calls that HTTP carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Procedure {
    /// gRPC (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>): its outcome is told behind the response's body.
    Grpc,
    /// gRPC-Web (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md>): its outcome is told at the end of the response's body,
    /// or in its head when there is no body.
    GrpcWeb,
    /// A Connect call with one request and one response (<https://connectrpc.com/docs/protocol>): HTTP's status tells its outcome.
    Connect,
    /// A Connect call with streams: its outcome is told at the end of the response's body.
    ConnectStream,
}

impl Request {
    /// Whether it is a call of gRPC.
    #[must_use]
    pub fn is_grpc(&self) -> bool {
        self.procedure() == Some(Procedure::Grpc)
    }

    /// The protocol of remote procedure calls it is a call of, by its content type and the header or parameter that Connect has.
    #[must_use]
    pub fn procedure(&self) -> Option<Procedure> {
        let posts = &*self.method == "POST";
        let fits = |kind: &Procedure| if *kind == Procedure::Grpc { self.version == Version::Http2 } else { posts };
        if let Some(typed) = self.head.values("content-type").find_map(|value| Procedure::of_type(value).filter(fits)) {
            return Some(typed);
        }
        let versioned = || self.head.values("connect-protocol-version").any(|version| version == b"1");
        let asks = || self.query.as_ref().is_some_and(|query| query.split('&').any(|part| part == "connect=v1"));
        ((posts && versioned()) || (&*self.method == "GET" && asks())).then_some(Procedure::Connect)
    }
}

impl Procedure {
    /// The protocol that a content type is of; what follows `+` or `;` is about the messages.
    fn of_type(value: &[u8]) -> Option<Self> {
        const FAMILY: &[u8] = b"application/";
        let (family, rest) = value.split_at_checked(FAMILY.len())?;
        let name = rest.split(|byte| matches!(byte, b'+' | b';' | b' ')).next()?;
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match family.eq_ignore_ascii_case(FAMILY) {
            true if is("grpc") => Some(Self::Grpc),
            true if is("grpc-web") || is("grpc-web-text") => Some(Self::GrpcWeb),
            true if is("connect") => Some(Self::ConnectStream),
            _ => None,
        }
    }
}

impl Response {
    /// The status of a gRPC call, where it was seen.
    #[must_use]
    pub fn grpc_status(&self) -> Option<u16> {
        self.head.values("grpc-status").find_map(|value| std::str::from_utf8(value).ok()?.parse().ok())
    }
}

impl std::fmt::Debug for Head {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.headers().map(|(name, _)| String::from_utf8_lossy(name).into_owned());
        f.debug_list().entries(names).finish()
    }
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("authority", &self.authority)
            .field("path", &self.path)
            .field("query", &self.query.as_ref().map(|_| "..."))
            .field("userinfo", &self.userinfo.as_ref().map(|_| "..."))
            .field("version", &self.version)
            .field("head", &self.head)
            .field("sequence", &self.sequence)
            .finish()
    }
}

impl UnknownReason {
    /// The reason as records and metrics carry it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Capacity => "capacity",
            Self::ConnectionAuthenticated => "connection-authenticated",
            Self::Encrypted => "encrypted",
            Self::Gap => "gap",
            Self::HeadTruncated => "head-truncated",
            Self::HpackLost => "hpack-lost",
            Self::Http2 => "http2",
            Self::Malformed => "malformed",
            Self::MidStream => "mid-stream",
            Self::PeerCredentials => "peer-credentials",
            Self::ResumedTls => "resumed-tls",
            Self::UndeterminedTls => "undetermined-tls",
            Self::UnreadProtocol => "unread-protocol",
        }
    }
}
