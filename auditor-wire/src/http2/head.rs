//! Fields of a header block to the head of a message, in the form that HTTP/1.1 has it: as a gateway forwards it (RFC 9113
//! section 8). What reads heads reads both alike.

use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD};
use zeroize::Zeroizing;

use crate::buffer::SecretBuffer;
use crate::detect::is_token;
use crate::exchange::{Request, Response, UnknownReason, Version};
use crate::http1::head;

/// The fields of one header block. They hold secrets: they are wiped when dropped.
#[derive(Default)]
pub struct Fields {
    method: Option<Zeroizing<Vec<u8>>>,
    path: Option<Zeroizing<Vec<u8>>>,
    authority: Option<Zeroizing<Vec<u8>>>,
    /// Extended CONNECT (RFC 8441 section 4).
    protocol: Option<Zeroizing<Vec<u8>>>,
    scheme: bool,
    status: Option<u16>,
    /// The other fields, as lines of a head.
    lines: SecretBuffer,
    grpc_status: Option<u16>,
    bytes: usize,
    /// They were not read, and why.
    unread: Option<UnknownReason>,
    /// Fields that are not known were among them.
    lost: bool,
    /// There were more than are kept.
    truncated: bool,
    malformed: bool,
}

/// What a header block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Of a request.
    Request,
    /// Of a response, with its status.
    Response(u16),
    /// Fields behind a message, or a block of which too little is known.
    Other,
}

impl Fields {
    /// Fields of a block that was not read.
    #[must_use]
    pub fn unread(reason: UnknownReason) -> Self {
        Self { unread: Some(reason), ..Self::default() }
    }

    /// Takes a field; keeps up to `limit` bytes in all.
    pub fn put(&mut self, name: Option<&[u8]>, value: Option<&[u8]>, limit: usize) {
        let (Some(name), Some(value)) = (name, value) else {
            self.lost = true;
            return;
        };
        let coded = binary(name, value);
        let value = coded.as_ref().map_or(value, |coded| coded.as_bytes());
        self.bytes = self.bytes.saturating_add(name.len() + value.len() + 4);
        if self.bytes > limit {
            self.truncated = true;
        } else if let Some(name) = name.strip_prefix(b":") {
            self.pseudo(name, value);
        } else {
            self.line(name, value);
        }
    }

    /// A field of control data (RFC 9113 section 8.3): each stands once, before all others.
    fn pseudo(&mut self, name: &[u8], value: &[u8]) {
        self.malformed |= !self.lines.is_empty();
        let place = match name {
            b"method" => &mut self.method,
            b"path" => &mut self.path,
            b"authority" => &mut self.authority,
            b"protocol" => &mut self.protocol,
            b"scheme" => {
                self.malformed |= std::mem::replace(&mut self.scheme, true);
                return;
            }
            b"status" => {
                let status = match value {
                    [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'] => {
                        let digit = |byte: &u8| u16::from(byte - b'0');
                        Some(digit(a) * 100 + digit(b) * 10 + digit(c))
                    }
                    _ => None,
                };
                self.malformed |= status.is_none() || self.status.is_some();
                self.status = status;
                return;
            }
            _ => {
                self.malformed = true;
                return;
            }
        };
        self.malformed |= place.is_some();
        *place = Some(Zeroizing::new(value.to_vec()));
    }

    fn line(&mut self, name: &[u8], value: &[u8]) {
        let fits = !name.is_empty() && name.iter().all(|byte| is_token(*byte) && !byte.is_ascii_uppercase());
        if !fits || value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            // RFC 9113 section 8.2.1. A line break would make one field two.
            self.malformed = true;
            return;
        }
        if name == b"grpc-status" {
            self.grpc_status = std::str::from_utf8(value).ok().and_then(|status| status.parse().ok());
        }
        for part in [name, b": ", value, b"\r\n"] {
            self.lines.push(part);
        }
    }

    /// Bytes that are kept.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.bytes
    }

    /// What block it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self.status {
            Some(status) => Kind::Response(status),
            None if self.method.is_some() || self.path.is_some() || self.authority.is_some() || self.scheme => {
                Kind::Request
            }
            None => Kind::Other,
        }
    }

    /// `grpc-status`, where it stands among the fields.
    #[must_use]
    pub fn grpc_status(&self) -> Option<u16> {
        self.grpc_status
    }

    /// Why not all fields are known, if so.
    #[must_use]
    pub fn unknown(&self) -> Option<UnknownReason> {
        match () {
            () if self.unread.is_some() => self.unread,
            () if self.malformed => Some(UnknownReason::Malformed),
            () if self.lost => Some(UnknownReason::HpackLost),
            () if self.truncated => Some(UnknownReason::HeadTruncated),
            () => None,
        }
    }

    /// The request, as far as there is one, and why it is not known whole. An extended CONNECT is what it is in HTTP/1.1: a GET
    /// with `Upgrade` (RFC 8441 section 5).
    #[must_use]
    pub fn request(self, sequence: u32) -> (Option<Request>, Option<UnknownReason>) {
        let unknown = self.unknown();
        let malformed = unknown.or(Some(UnknownReason::Malformed));
        let (Some(method), authority) = (&self.method, self.authority.as_deref()) else { return (None, malformed) };
        let tunnel = method.as_slice() == b"CONNECT" && self.protocol.is_none();
        let target = if tunnel { authority } else { self.path.as_deref() };
        let Some(target) = target else { return (None, malformed) };
        let plain = |bytes: &[u8]| !bytes.is_empty() && bytes.iter().all(|byte| *byte > b' ' && *byte != 0x7f);
        let local = tunnel || target.starts_with(b"/") || target.as_slice() == b"*";
        let host = authority.is_none_or(|host| plain(host) && !host.contains(&b'@'));
        if !plain(target) || !local || !host || !method.iter().all(|byte| is_token(*byte)) {
            return (None, Some(UnknownReason::Malformed));
        }
        let method: &[u8] = if self.protocol.is_some() { b"GET" } else { method };
        let mut text = SecretBuffer::with_capacity(self.bytes + 64);
        for part in [method, b" ", target, b" HTTP/1.1\r\n"] {
            text.push(part);
        }
        for (name, value) in [(&b"host"[..], authority), (b"upgrade", self.protocol.as_deref())] {
            for part in value.iter().flat_map(|value| [name, b": ", value, b"\r\n"]) {
                text.push(part);
            }
        }
        text.push(self.lines.as_slice());
        text.push(b"\r\n");
        let Some(head) = head::request(text.into_vec(), sequence) else { return (None, malformed) };
        let unknown = if head.malformed { Some(UnknownReason::Malformed) } else { unknown };
        (Some(Request { version: Version::Http2, ..head.request }), unknown)
    }

    /// The response. Of the fields that follow its body the status of gRPC alone is put among its own.
    #[must_use]
    pub fn response(self, sequence: u32, grpc_status: Option<u16>) -> Option<Response> {
        let status = self.status?;
        let mut text = SecretBuffer::with_capacity(self.bytes + 64);
        text.push(format!("HTTP/1.1 {status}\r\n").as_bytes());
        text.push(self.lines.as_slice());
        if let Some(code) = grpc_status.filter(|_| self.grpc_status.is_none()) {
            text.push(format!("grpc-status: {code}\r\n").as_bytes());
        }
        text.push(b"\r\n");
        head::response(text.into_vec(), sequence).map(|head| head.response)
    }
}

/// A value that gRPC sends as it is to peers that said they take it: behind a zero, where all others get Base64 (gRPC's proposal G1,
/// "true binary metadata"). It is kept as those get it: such bytes are no field of HTTP.
fn binary(name: &[u8], value: &[u8]) -> Option<Zeroizing<String>> {
    let bytes = value.strip_prefix(&[0]).filter(|_| name.ends_with(b"-bin"))?;
    Some(Zeroizing::new(BASE64_STANDARD_NO_PAD.encode(bytes)))
}

impl std::fmt::Debug for Fields {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fields").field("kind", &self.kind()).field("unknown", &self.unknown()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 65_536;

    fn request(more: &[(&str, &[u8])]) -> (Option<Request>, Option<UnknownReason>) {
        let mut fields = Fields::default();
        let head: &[(&str, &[u8])] = &[(":method", b"POST"), (":scheme", b"http"), (":path", b"/a.B/C")];
        for (name, value) in head.iter().chain(more) {
            fields.put(Some(name.as_bytes()), Some(value), LIMIT);
        }
        fields.request(0)
    }

    #[test]
    fn binary_metadata_as_it_is_is_what_it_is_in_base64() {
        let (request, unknown) = request(&[("x-trace-bin", b"\0ab\r\n\0"), ("authorization", b"Bearer b")]);
        assert_eq!(unknown, None);
        let head = request.expect("the head is whole").head;
        assert_eq!(head.values("x-trace-bin").collect::<Vec<_>>(), [b"YWINCgA"]);
        assert_eq!(head.values("authorization").collect::<Vec<_>>(), [b"Bearer b"]);
    }

    #[test]
    fn zeros_and_line_breaks_stand_in_no_other_field() {
        for field in [("x-trace", &b"\0ab"[..]), ("x-trace-bin", b"ab\0"), ("x-trace-bin", b"a\r\nb"), ("x", b"\0")] {
            assert_eq!(request(&[field]).1, Some(UnknownReason::Malformed), "{field:?}");
        }
    }
}
