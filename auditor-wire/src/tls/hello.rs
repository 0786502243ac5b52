//! The first messages of both sides: ClientHello, ServerHello, HelloRetryRequest (RFC 8446 section 4.1). A bounded reader that
//! decrypts nothing.
//!
//! It is our own because hellos are often seen cut: what was read before the end must count, and it must be known that it is
//! not all. A parser of whole messages gives an error there. Tickets and session ids do not outlive the reading: they become a
//! number that tells whether two are the same.

use std::hash::{DefaultHasher, Hasher as _};

/// Longest ClientHello that is put together from its parts, bytes.
pub const LONGEST_HELLO: usize = 16 * 1024;
/// Most protocols that are listed of an ALPN extension.
const MOST_PROTOCOLS: usize = 16;
/// Longest server name that is kept, bytes: longer than any of the DNS.
const LONGEST_NAME: usize = 255;
/// Most bytes of names that are kept of a hello: the server's and those of protocols, whose length is one byte.
pub(super) const MOST_NAMES: usize = LONGEST_NAME + MOST_PROTOCOLS * 255;
/// The random of a ServerHello that is a HelloRetryRequest (RFC 8446 section 4.1.3).
pub(super) const RETRY: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2, 0xa2, 0x11,
    0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// Numbers of extensions (IANA TLS ExtensionType Values).
mod extension {
    pub(super) const SERVER_NAME: usize = 0;
    pub(super) const ALPN: usize = 16;
    pub(super) const CLIENT_CERTIFICATE_TYPE: usize = 19;
    pub(super) const SESSION_TICKET: usize = 35;
    pub(super) const PRE_SHARED_KEY: usize = 41;
    pub(super) const EARLY_DATA: usize = 42;
    pub(super) const SUPPORTED_VERSIONS: usize = 43;
    pub(super) const PSK_KEY_EXCHANGE_MODES: usize = 45;
    pub(super) const POST_HANDSHAKE_AUTH: usize = 49;
}

/// What a client begins a handshake with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// Server name (RFC 6066 section 3).
    pub sni: Option<Box<str>>,
    /// Protocols the client offers (RFC 7301).
    pub alpn: Vec<Box<str>>,
    /// Its random.
    pub random: Option<[u8; 32]>,
    /// All of it was read: what is not in it was not offered.
    pub(super) whole: bool,
    /// The session it wants to go on with, by id or ticket (TLS 1.2 and older).
    pub(super) session: Option<Name>,
    pub(super) ticket: Option<Name>,
    /// The first identity of a pre-shared key, which a ticket is (TLS 1.3), and its length.
    pub(super) identity: Option<(Name, u16)>,
    /// It may send data before the server answers.
    pub(super) early_data: bool,
    /// It may give its certificate later.
    pub(super) post_handshake_auth: bool,
    /// It takes tickets: a server sends none without (RFC 8446 section 4.2.9).
    pub(super) takes_tickets: bool,
    /// It may give a bare key in place of a certificate (RFC 7250).
    pub(super) raw_keys: bool,
}

/// What a server answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ServerHello {
    /// The version of the connection, as far as the message is there.
    pub(super) version: Option<u16>,
    pub(super) suite: u16,
    /// It is a HelloRetryRequest: the client says hello again.
    pub(super) retry: bool,
    /// It goes on with a pre-shared key of the client.
    pub(super) resumed: bool,
    /// That is the first the client named.
    pub(super) first_identity: bool,
    pub(super) session: Option<Name>,
}

/// Stands for a ticket or a session id: equal for equal ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Name(pub(super) u64);

impl ClientHello {
    /// Bytes held.
    pub(super) fn held(&self) -> usize {
        self.sni.iter().chain(&self.alpn).map(|name| name.len()).sum()
    }
}

impl Name {
    /// What stands for these bytes; nothing for none.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        let mut hasher = DefaultHasher::new();
        hasher.write(bytes);
        (!bytes.is_empty()).then(|| Self(hasher.finish()))
    }
}

/// What the first bytes of a TLS stream are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hello {
    /// A ClientHello; whoever sent it is the client.
    Client(ClientHello),
    /// A handshake message of a server.
    Server,
    /// More bytes are needed.
    More,
}

/// Reads the first handshake message of a stream of TLS records.
#[must_use]
pub fn hello(stream: &[u8]) -> Hello {
    let mut message = Vec::new();
    let mut reader = Reader(stream);
    while message.len() < LONGEST_HELLO {
        let Some(record) = record(&mut reader) else { break };
        message.extend_from_slice(record);
        match message.first() {
            None | Some(1) => {}
            Some(_) => return Hello::Server,
        }
        let Some(length) = message.get(1..4).map(|l| u32::from_be_bytes([0, l[0], l[1], l[2]]) as usize) else {
            continue;
        };
        if let Some(body) = message.get(4..4 + length) {
            return Hello::Client(client_hello(body));
        }
    }
    Hello::More
}

/// What can be said of a hello whose rest is missing.
#[must_use]
pub fn cut_hello(stream: &[u8]) -> Hello {
    match stream.get(5) {
        None | Some(1) => Hello::Client(stream.get(9..).map(client_hello).unwrap_or_default()),
        Some(_) => Hello::Server,
    }
}

/// The fragment of a handshake record, or what is there of it when nothing follows.
fn record<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    let [0x16, 3, _] = *reader.take(3)? else { return None };
    let length = reader.u16()?;
    reader.take(length.min(reader.0.len())).filter(|fragment| !fragment.is_empty())
}

/// The body of a ClientHello. What can be read before it ends or contradicts itself is returned.
pub(super) fn client_hello(body: &[u8]) -> ClientHello {
    let mut found = ClientHello::default();
    found.whole = read_client_hello(&mut Reader(body), &mut found).is_some();
    found
}

/// `None` when it is not whole.
fn read_client_hello(reader: &mut Reader<'_>, found: &mut ClientHello) -> Option<()> {
    reader.take(2)?;
    found.random = reader.take(32)?.first_chunk().copied();
    let session = reader.u8()?;
    found.session = Name::of(reader.take(session)?);
    let suites = reader.u16()?;
    reader.take(suites)?;
    let compression = reader.u8()?;
    reader.take(compression)?;
    extensions(reader, |kind, extension| match kind {
        extension::SERVER_NAME => found.sni = server_name(extension),
        extension::ALPN => found.alpn = protocols(extension),
        extension::CLIENT_CERTIFICATE_TYPE => found.raw_keys = true,
        extension::SESSION_TICKET => found.ticket = Name::of(extension),
        extension::PRE_SHARED_KEY => found.identity = identity(extension),
        extension::EARLY_DATA => found.early_data = true,
        extension::PSK_KEY_EXCHANGE_MODES => found.takes_tickets = true,
        extension::POST_HANDSHAKE_AUTH => found.post_handshake_auth = true,
        _ => {}
    })
}

/// The body of a ServerHello; nothing when it is cut before its suite.
pub(super) fn server_hello(body: &[u8]) -> Option<ServerHello> {
    let mut reader = Reader(body);
    let legacy = u16::try_from(reader.u16()?).ok()?;
    let random = reader.take(32)?;
    let session = reader.u8()?;
    let session = Name::of(reader.take(session)?);
    let suite = u16::try_from(reader.u16()?).ok()?;
    reader.u8()?;
    let mut found = ServerHello { suite, retry: random == RETRY, session, ..ServerHello::default() };
    let mut chosen = None;
    let whole = extensions(&mut reader, |kind, extension| match kind {
        extension::SUPPORTED_VERSIONS => chosen = extension.first_chunk().map(|version| u16::from_be_bytes(*version)),
        extension::PRE_SHARED_KEY => {
            found.resumed = true;
            found.first_identity = extension == [0, 0];
        }
        _ => {}
    });
    found.version = whole.map(|()| chosen.unwrap_or(legacy));
    Some(found)
}

/// Reads a list of extensions, which may be absent. `None` when it is cut or contradicts itself.
fn extensions<'a>(reader: &mut Reader<'a>, mut each: impl FnMut(usize, &'a [u8])) -> Option<()> {
    if reader.0.is_empty() {
        return Some(());
    }
    let length = reader.u16()?;
    let whole = length == reader.0.len();
    while !reader.0.is_empty() {
        let kind = reader.u16()?;
        let length = reader.u16()?;
        each(kind, reader.take(length)?);
    }
    whole.then_some(())
}

/// The first identity of a `pre_shared_key` extension (RFC 8446 section 4.2.11).
fn identity(extension: &[u8]) -> Option<(Name, u16)> {
    let mut reader = Reader(extension);
    reader.u16()?;
    let length = reader.u16()?;
    let identity = reader.take(length)?;
    Some((Name::of(identity)?, u16::try_from(length).ok()?))
}

fn server_name(extension: &[u8]) -> Option<Box<str>> {
    let mut reader = Reader(extension);
    reader.u16()?;
    let kind = reader.u8()?;
    let length = reader.u16()?;
    let name = reader.take(length)?;
    (kind == 0 && name.len() <= LONGEST_NAME).then(|| printable(name)).flatten()
}

fn protocols(extension: &[u8]) -> Vec<Box<str>> {
    let mut reader = Reader(extension);
    let mut found = Vec::new();
    reader.u16();
    while found.len() < MOST_PROTOCOLS {
        let Some(name) = reader.u8().and_then(|length| reader.take(length)) else { break };
        found.extend(printable(name));
    }
    found
}

fn printable(name: &[u8]) -> Option<Box<str>> {
    let name = std::str::from_utf8(name).ok()?;
    (!name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic())).then(|| name.into())
}

/// Reads numbers and parts from the front of bytes.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<usize> {
        Some(usize::from(self.take(1)?[0]))
    }

    fn u16(&mut self) -> Option<usize> {
        self.take(2).map(|bytes| usize::from(u16::from_be_bytes([bytes[0], bytes[1]])))
    }
}

/// A ClientHello in one record, for tests.
#[doc(hidden)]
#[must_use]
pub fn sample_hello(sni: &str, alpn: &[&str]) -> Vec<u8> {
    let sized = |bytes: &[u8], width: usize| {
        let length = bytes.len().to_be_bytes();
        [&length[8 - width..], bytes].concat()
    };
    let name = sized(&[&[0][..], &sized(sni.as_bytes(), 2)].concat(), 2);
    let list: Vec<u8> = alpn.iter().flat_map(|protocol| sized(protocol.as_bytes(), 1)).collect();
    let extensions =
        [&[0, 0][..], &sized(&name, 2), &[0, 16], &sized(&sized(&list, 2), 2), &[0, 43], &sized(&[2, 3, 4], 2)]
            .concat();
    let body =
        [&[3, 3][..], &[7; 32], &sized(&[9; 32], 1), &sized(&[0x13, 1], 2), &sized(&[0], 1), &sized(&extensions, 2)]
            .concat();
    let message = [&[1][..], &sized(&body, 3)].concat();
    [&[0x16, 3, 1][..], &sized(&message, 2)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_name_and_protocols() {
        let expected = ClientHello {
            sni: Some("a.example".into()),
            alpn: vec!["h2".into(), "http/1.1".into()],
            random: Some([7; 32]),
            session: Name::of(&[9; 32]),
            whole: true,
            ..ClientHello::default()
        };
        let bytes = sample_hello("a.example", &["h2", "http/1.1"]);
        assert_eq!(hello(&bytes), Hello::Client(expected.clone()));
        for cut in 0..bytes.len() {
            assert_eq!(hello(&bytes[..cut]), Hello::More, "cut at {cut}");
        }
        let cut = ClientHello { whole: false, ..expected };
        assert_eq!(cut_hello(&bytes[..bytes.len() - 2]), Hello::Client(cut));
    }

    #[test]
    fn reads_a_message_split_over_records() {
        let whole = sample_hello("b.example", &["h2"]);
        let message = &whole[5..];
        let mut records = Vec::new();
        for part in message.chunks(20) {
            records.extend_from_slice(&[0x16, 3, 1, 0, u8::try_from(part.len()).expect("a short part")]);
            records.extend_from_slice(part);
        }
        assert_eq!(hello(&records), hello(&whole));
    }

    #[test]
    fn tells_a_server() {
        assert_eq!(hello(&[0x16, 3, 3, 0, 4, 2, 0, 0, 0]), Hello::Server);
    }
}
