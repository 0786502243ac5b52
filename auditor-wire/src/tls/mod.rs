//! TLS as the wire shows it, without decrypting: who offered what, whether the client was asked for a certificate, whether it
//! gave one, and whether the server went on. [`Facts`] is what is said of one connection.

mod decide12;
mod decide13;
mod endpoints;
mod handshake;
mod hello;
mod late;
mod lengths;
mod memory;
mod prelude;
mod proof;
mod record;
#[cfg(test)]
mod sequences;
mod session;
mod trace;

use std::fmt;

pub use self::endpoints::{Endpoint, Endpoints};
pub use self::hello::{ClientHello, Hello, LONGEST_HELLO, cut_hello, hello, sample_hello};
pub use self::prelude::{Prelude, prelude};
pub use self::proof::{Progress, Proof};
pub use self::session::{Session, Side};

/// A protocol version (RFC 8446 section 4.2.1): `0x0301` is TLS 1.0, `0x0304` TLS 1.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u16);

/// What a client did about proving who it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ClientCertificate {
    /// It was not asked, or the handshake has no certificate message of the client.
    None,
    /// It was asked and gave none: an empty Certificate message.
    Empty,
    /// It gave one and proved to hold its key, as far as the server let the handshake go on.
    Presented,
    /// The session was resumed: what the client proved, it proved in an earlier connection.
    Resumed,
    /// One of the two ended the handshake.
    Rejected,
    /// The wire does not tell.
    #[default]
    Undetermined,
}

/// Whether the server went on after what the client gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Accepted {
    /// It did, at the TLS layer: it may still refuse inside.
    Yes,
    /// It ended the handshake.
    No,
    /// Not seen.
    #[default]
    Unknown,
}

/// How sure the statement is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Evidence {
    /// Read from plaintext messages, or told by the library.
    Proven,
    /// From the lengths and the order of encrypted records.
    Inferred,
    /// From the connection in which the session began.
    Inherited,
    /// None.
    #[default]
    Unknown,
}

/// The client's proof of identity at the TLS layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ClientAuth {
    /// What the client did.
    pub certificate: ClientCertificate,
    /// What the server made of it.
    pub accepted: Accepted,
    /// How sure that is.
    pub evidence: Evidence,
    /// For a resumed session: whether the client had given a certificate when it began, where that can be told.
    pub inherited: Option<bool>,
}

/// What is known of one TLS connection.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The version the server chose.
    pub version: Option<Version>,
    /// The cipher suite the server chose (IANA TLS Cipher Suites).
    pub suite: Option<u16>,
    /// Server name (RFC 6066 section 3).
    pub sni: Option<Box<str>>,
    /// Protocols the client offers (RFC 7301).
    pub alpn: Vec<Box<str>>,
    /// The session was resumed.
    pub resumed: Option<bool>,
    /// The server asked for a client certificate.
    pub requested: Option<bool>,
    /// The client's proof.
    pub client: ClientAuth,
    /// What the client had given when the server ended the handshake: `Empty` shows that it is not served without a certificate.
    pub refused: Option<ClientCertificate>,
    /// Whether the server's library found the client's certificate good; `None` where no library told.
    pub verified: Option<bool>,
    /// Certificates the client sent in clear (TLS 1.2 and older), DER, leaf first.
    pub client_chain: Vec<Box<[u8]>>,
    /// Certificates the server sent in clear (TLS 1.2 and older), DER, leaf first.
    pub server_chain: Vec<Box<[u8]>>,
    /// A chain above lacks certificates at its end: more were sent than are kept.
    pub chain_cut: bool,
    /// The random of the ClientHello: ties the connection to what a library tells of it.
    pub client_random: Option<[u8; 32]>,
}

/// Content type of handshake records (RFC 8446 section 5.1).
pub(crate) const HANDSHAKE: u8 = 22;
/// Type of the message a client begins with (RFC 8446 section 4).
pub(crate) const CLIENT_HELLO: u8 = 1;

impl ClientCertificate {
    /// The word that records and metric labels carry.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Empty => "empty",
            Self::Presented => "presented",
            Self::Resumed => "resumed",
            Self::Rejected => "rejected",
            Self::Undetermined => "undetermined",
        }
    }
}

impl Accepted {
    /// The word that records carry.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Unknown => "unknown",
        }
    }
}

impl Evidence {
    /// The word that records carry.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Proven => "proven",
            Self::Inferred => "inferred",
            Self::Inherited => "inherited",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0x0300 => f.write_str("SSL 3.0"),
            0x0301 => f.write_str("TLS 1.0"),
            0x0302 => f.write_str("TLS 1.1"),
            0x0303 => f.write_str("TLS 1.2"),
            0x0304 => f.write_str("TLS 1.3"),
            other => write!(f, "0x{other:04x}"),
        }
    }
}

impl fmt::Debug for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Facts")
            .field("version", &self.version)
            .field("suite", &self.suite)
            .field("sni", &self.sni)
            .field("alpn", &self.alpn)
            .field("resumed", &self.resumed)
            .field("requested", &self.requested)
            .field("client", &self.client)
            .field("refused", &self.refused)
            .field("verified", &self.verified)
            .field("client_chain", &self.client_chain.len())
            .field("server_chain", &self.server_chain.len())
            .field("chain_cut", &self.chain_cut)
            .finish_non_exhaustive()
    }
}
