//! The first message of a TLS client: server name and protocols. A bounded reader of the ClientHello (RFC 8446 section 4.1.2);
//! it keeps nothing and decrypts nothing.

/// Longest ClientHello that is put together from its parts, bytes.
pub const LONGEST_HELLO: usize = 16 * 1024;
/// Most protocols that are listed of an ALPN extension.
const MOST_PROTOCOLS: usize = 16;

/// What a TLS handshake begins with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// Server name (RFC 6066 section 3).
    pub sni: Option<Box<str>>,
    /// Protocols the client offers (RFC 7301).
    pub alpn: Vec<Box<str>>,
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
            return Hello::Client(client_hello(body).unwrap_or_default());
        }
    }
    Hello::More
}

/// What can be said of a hello whose rest is missing.
#[must_use]
pub fn cut_hello(stream: &[u8]) -> Hello {
    match stream.get(5) {
        None | Some(1) => Hello::Client(stream.get(9..).and_then(client_hello).unwrap_or_default()),
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
fn client_hello(body: &[u8]) -> Option<ClientHello> {
    let mut found = ClientHello::default();
    let mut reader = Reader(body);
    reader.take(2 + 32)?;
    let session = reader.u8()?;
    reader.take(session)?;
    let suites = reader.u16()?;
    reader.take(suites)?;
    let compression = reader.u8()?;
    reader.take(compression)?;
    reader.u16()?;
    while let (Some(kind), Some(length)) = (reader.u16(), reader.u16()) {
        let Some(extension) = reader.take(length) else { break };
        match kind {
            0 => found.sni = server_name(extension),
            16 => found.alpn = protocols(extension),
            _ => {}
        }
    }
    Some(found)
}

fn server_name(extension: &[u8]) -> Option<Box<str>> {
    let mut reader = Reader(extension);
    reader.u16()?;
    let kind = reader.u8()?;
    let length = reader.u16()?;
    let name = reader.take(length)?;
    (kind == 0).then(|| printable(name)).flatten()
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
        let expected = ClientHello { sni: Some("a.example".into()), alpn: vec!["h2".into(), "http/1.1".into()] };
        let bytes = sample_hello("a.example", &["h2", "http/1.1"]);
        assert_eq!(hello(&bytes), Hello::Client(expected.clone()));
        for cut in 0..bytes.len() {
            assert_eq!(hello(&bytes[..cut]), Hello::More, "cut at {cut}");
        }
        assert_eq!(cut_hello(&bytes[..bytes.len() - 2]), Hello::Client(expected));
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
