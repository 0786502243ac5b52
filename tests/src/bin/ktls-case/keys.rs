//! The handshake, and how the kernel gets its keys.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    os::fd::AsRawFd as _,
    sync::Arc,
};

use anyhow::{Context as _, Result, bail, ensure};
use rustls::{
    ClientConfig, ClientConnection, Connection, ConnectionTrafficSecrets, DigitallySignedStruct, ServerConfig,
    ServerConnection, SignatureScheme, SupportedProtocolVersion,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime},
    version::{TLS12, TLS13},
};

use crate::talk::{Talk, Way};

/// `TCP_ULP` (include/uapi/linux/tcp.h), `SOL_TLS` (include/linux/socket.h), `TLS_TX` and `TLS_RX` (include/uapi/linux/tls.h).
const TCP_ULP: libc::c_int = 31;
pub(crate) const SOL_TLS: libc::c_int = 282;
const TLS_TX: libc::c_int = 1;
const TLS_RX: libc::c_int = 2;
/// `TLS_CIPHER_AES_GCM_128`.
const AES_GCM_128: u16 = 51;

/// Which directions' keys an end gives its kernel.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Offload {
    sent: bool,
    received: bool,
}

impl Offload {
    pub(crate) const NONE: Self = Self { sent: false, received: false };
    pub(crate) const SENT: Self = Self { sent: true, received: false };
    pub(crate) const BOTH: Self = Self { sent: true, received: true };
}

/// A connection after its handshake.
pub(crate) struct Session {
    pub(crate) tls: Connection,
    pub(crate) stream: TcpStream,
    version: u16,
}

impl Session {
    pub(crate) fn client(stream: TcpStream, version: &str) -> Result<Self> {
        let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[protocol(version)?])?;
        let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone));
        let mut config = builder.with_no_client_auth();
        config.enable_secret_extraction = true;
        let tls = ClientConnection::new(Arc::new(config), "localhost".try_into()?)?;
        Self::shake(Connection::Client(tls), stream, version)
    }

    /// With `tickets` the first records under the server's keys are no data.
    pub(crate) fn server(stream: TcpStream, config: &Arc<ServerConfig>, version: &str) -> Result<Self> {
        Self::shake(Connection::Server(ServerConnection::new(Arc::clone(config))?), stream, version)
    }

    fn shake(mut tls: Connection, mut stream: TcpStream, version: &str) -> Result<Self> {
        while tls.is_handshaking() || tls.wants_write() {
            while tls.wants_write() {
                tls.write_tls(&mut stream)?;
            }
            if tls.is_handshaking() {
                let read = tls.read_tls(&mut OneRecord { stream: &stream, left: 0 })?;
                ensure!(read > 0, "the connection ends within the handshake");
                tls.process_new_packets()?;
            }
        }
        Ok(Self { tls, stream, version: if version == "1.2" { 0x0303 } else { 0x0304 } })
    }

    /// Gives the kernel the keys of the directions that are wanted.
    pub(crate) fn offload(self, wanted: Offload, way: Way) -> Result<Talk<'static>> {
        let Self { tls, stream, version } = self;
        if wanted == Offload::NONE {
            return Ok(Talk::Own(Box::new(Self { tls, stream, version })));
        }
        let secrets = tls.dangerous_extract_secrets()?;
        option(&stream, libc::SOL_TCP, TCP_ULP, b"tls").context("the kernel has no TLS")?;
        option(&stream, SOL_TLS, TLS_TX, &info(version, secrets.tx.0, &secrets.tx.1)?)?;
        if wanted.received {
            option(&stream, SOL_TLS, TLS_RX, &info(version, secrets.rx.0, &secrets.rx.1)?)?;
        }
        ensure!(wanted.sent, "no case gives the keys of what comes alone");
        Ok(Talk::Kernel { stream, way, reads: wanted.received })
    }
}

/// Reads as far as one record goes: what follows the handshake is for the kernel to decrypt.
struct OneRecord<'a> {
    stream: &'a TcpStream,
    left: usize,
}

impl Read for OneRecord<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut header = [0; 5];
        while self.left == 0 {
            match self.stream.peek(&mut header)? {
                5 => self.left = 5 + usize::from(u16::from_be_bytes([header[3], header[4]])),
                0 => return Ok(0),
                _ => {}
            }
        }
        let most = self.left.min(buffer.len());
        let read = (&mut &*self.stream).read(&mut buffer[..most])?;
        self.left -= read;
        Ok(read)
    }
}

/// What talks through rustls.
pub(crate) fn through<'a>(tls: &'a mut Connection, stream: &'a mut TcpStream) -> Through<'a> {
    Through { tls, stream }
}

/// Reads and writes plaintext, a record at a time.
pub(crate) struct Through<'a> {
    tls: &'a mut Connection,
    stream: &'a mut TcpStream,
}

impl Through<'_> {
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.tls.writer().write_all(bytes)?;
        while self.tls.wants_write() {
            self.tls.write_tls(self.stream)?;
        }
        Ok(())
    }

    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            match self.tls.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return Ok(other?),
            }
            if self.tls.read_tls(&mut OneRecord { stream: self.stream, left: 0 })? == 0 {
                return Ok(0);
            }
            self.tls.process_new_packets()?;
        }
    }
}

/// `struct tls12_crypto_info_aes_gcm_128` (include/uapi/linux/tls.h).
fn info(version: u16, sequence: u64, secrets: &ConnectionTrafficSecrets) -> Result<Vec<u8>> {
    let ConnectionTrafficSecrets::Aes128Gcm { key, iv } = secrets else { bail!("another cipher was agreed on") };
    let (salt, iv) = iv.as_ref().split_at(4);
    let head = [version.to_ne_bytes(), AES_GCM_128.to_ne_bytes()].concat();
    Ok([&head, iv, key.as_ref(), salt, &sequence.to_be_bytes()].concat())
}

fn option(stream: &TcpStream, level: libc::c_int, name: libc::c_int, value: &[u8]) -> Result<()> {
    let length = libc::socklen_t::try_from(value.len())?;
    // SAFETY: the value is as long as is said.
    let done = unsafe { libc::setsockopt(stream.as_raw_fd(), level, name, value.as_ptr().cast(), length) };
    ensure!(done == 0, "setsockopt {level} {name}: {}", io::Error::last_os_error());
    Ok(())
}

fn protocol(version: &str) -> Result<&'static SupportedProtocolVersion> {
    match version {
        "1.2" => Ok(&TLS12),
        "1.3" => Ok(&TLS13),
        _ => bail!("{version}: no such version"),
    }
}

/// A server's configuration. One that sends tickets has records under its keys that are no data.
pub(crate) fn server_config(version: &str, tickets: usize) -> Result<Arc<ServerConfig>> {
    let key = rcgen::KeyPair::generate()?;
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()])?.self_signed(&key)?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
    let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[protocol(version)?])?;
    let mut config = builder.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key)?;
    config.enable_secret_extraction = true;
    config.send_tls13_tickets = tickets;
    Ok(Arc::new(config))
}

/// The one cipher that every kernel with TLS knows.
fn provider() -> Arc<CryptoProvider> {
    let mut provider = ring::default_provider();
    provider.cipher_suites.retain(|suite| format!("{:?}", suite.suite()).contains("AES_128_GCM"));
    Arc::new(provider)
}

/// Whoever answers is the server.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
