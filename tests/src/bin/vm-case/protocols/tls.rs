//! TLS connections: with and without a client's certificate, in versions 1.2 and 1.3, with handshakes that are short and long.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::Arc,
};

use anyhow::{Context as _, Result, ensure};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    SupportedProtocolVersion,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    server::{NoClientAuth, WebPkiClientVerifier, danger::ClientCertVerifier},
    version::{TLS12, TLS13},
};
use serde_json::{Value, json};

use super::certificates::AUTHORITY;

/// Bytes that are answered inside: several records.
const ANSWER: usize = 40_000;

/// What a server asks of its clients.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asks {
    Nothing,
    Certificate,
}

/// A server.
pub(super) struct Kind {
    version: &'static SupportedProtocolVersion,
    asks: Asks,
    /// Certificates are long.
    long: bool,
}

/// Every server.
pub(super) const SERVERS: [Kind; 6] = [
    Kind { version: &TLS13, asks: Asks::Nothing, long: false },
    Kind { version: &TLS12, asks: Asks::Nothing, long: false },
    Kind { version: &TLS13, asks: Asks::Certificate, long: false },
    Kind { version: &TLS12, asks: Asks::Certificate, long: false },
    Kind { version: &TLS13, asks: Asks::Certificate, long: true },
    Kind { version: &TLS12, asks: Asks::Certificate, long: true },
];

/// A client of a server.
pub(super) struct Client {
    server: &'static Kind,
    presents: bool,
}

impl Kind {
    /// The name under which it stands.
    pub(super) fn column(&self) -> &'static str {
        match (self.asks, self.long) {
            (Asks::Nothing, _) => "TLS",
            (Asks::Certificate, false) => "mTLS",
            (Asks::Certificate, true) => "mTLS, 8 KB certificates",
        }
    }

    /// Its clients.
    pub(super) fn clients(&'static self) -> Vec<Client> {
        let presents: &[bool] = match (self.asks, self.long) {
            (Asks::Nothing, _) => &[false],
            (Asks::Certificate, false) => &[true, false],
            (Asks::Certificate, true) => &[true],
        };
        presents.iter().map(|presents| Client { server: self, presents: *presents }).collect()
    }

    pub(super) fn server(&self, directory: &Path) -> Result<Arc<ServerConfig>> {
        let verifier: Arc<dyn ClientCertVerifier> = match self.asks {
            Asks::Nothing => Arc::new(NoClientAuth),
            // Who presents nothing is let in.
            Asks::Certificate => WebPkiClientVerifier::builder_with_provider(trusted(directory)?, provider())
                .allow_unauthenticated()
                .build()?,
        };
        let (chain, key) = identity(directory, if self.long { "long-server" } else { "server" })?;
        let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[self.version])?;
        Ok(Arc::new(builder.with_client_cert_verifier(verifier).with_single_cert(chain, key)?))
    }
}

impl Client {
    /// Connects, calls inside, and says from which port, and what must be said of it.
    pub(super) fn connect(&self, address: SocketAddr, directory: &Path) -> Result<(u16, Value)> {
        let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[self.server.version])?;
        let builder = builder.with_root_certificates(trusted(directory)?);
        let config = if self.presents {
            let (chain, key) = identity(directory, if self.server.long { "long-client" } else { "client" })?;
            builder.with_client_auth_cert(chain, key)?
        } else {
            builder.with_no_client_auth()
        };
        let plain = TcpStream::connect(address)?;
        let port = plain.local_addr()?.port();
        let mut stream = StreamOwned::new(ClientConnection::new(Arc::new(config), "localhost".try_into()?)?, plain);
        stream.write_all(b"a call inside")?;
        stream.flush()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).context("no answer inside TLS")?;
        ensure!(answer.len() == ANSWER, "{} bytes were answered inside TLS", answer.len());
        stream.conn.send_close_notify();
        stream.flush()?;
        Ok((port, self.expected()))
    }

    fn expected(&self) -> Value {
        let version = if self.server.version == &TLS12 { "TLS 1.2" } else { "TLS 1.3" };
        let given = match (self.server.asks, self.presents) {
            (Asks::Nothing, _) => "none",
            (Asks::Certificate, false) => "empty",
            (Asks::Certificate, true) => "presented",
        };
        let presented = given == "presented";
        let findings = if presented { json!([]) } else { json!([{"rule": "no-client-identity"}]) };
        // In clear, and short enough to be copied.
        let subject = (presented && version == "TLS 1.2" && !self.server.long).then_some("CN=client");
        json!({
            "protocol": "tls",
            "transport": {
                "security": if presented { "mtls" } else { "tls" },
                "version": version,
                "resumed": false,
                "client_certificate": {
                    "outcome": given, "presented": presented, "accepted": "yes", "subject": subject,
                    "evidence": if version == "TLS 1.2" { "proven" } else { "inferred" },
                },
            },
            "verdict": if presented { "authenticated" } else { "unknown" },
            "unknown_reason": if presented { Value::Null } else { json!("encrypted") },
            "outcome": "accepted",
            "findings": findings,
        })
    }
}

/// Reads a call inside and answers it.
pub(super) fn answer(plain: TcpStream, config: &Arc<ServerConfig>) -> Result<()> {
    let mut stream = StreamOwned::new(ServerConnection::new(Arc::clone(config))?, plain);
    ensure!(stream.read(&mut [0; 100])? > 0, "nothing was asked");
    stream.write_all(&vec![b'x'; ANSWER])?;
    stream.conn.send_close_notify();
    stream.flush()?;
    // The client ends the connection: what it has not read yet would be lost with a reset.
    stream.read_to_end(&mut Vec::new())?;
    Ok(())
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn trusted(directory: &Path) -> Result<Arc<RootCertStore>> {
    let mut store = RootCertStore::empty();
    store.add(CertificateDer::from(fs::read(directory.join(AUTHORITY))?))?;
    Ok(Arc::new(store))
}

/// A chain and its key.
fn identity(directory: &Path, name: &str) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let read = |kind| fs::read(directory.join(name).with_extension(kind));
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(read("key")?));
    Ok((vec![CertificateDer::from(read("der")?)], key))
}
