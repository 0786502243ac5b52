//! The server.

use std::{
    io::{BufRead as _, BufReader, Write as _, copy, sink, stdin, stdout},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::Arc,
    thread,
};

use anyhow::{Context as _, Result, bail, ensure};
use rustls::{
    HandshakeKind, ProtocolVersion, ServerConfig, ServerConnection, StreamOwned,
    server::{NoClientAuth, WebPkiClientVerifier, danger::ClientCertVerifier},
    version::{TLS12, TLS13},
};

use crate::{identity, provider, trusted};

pub(crate) fn run(directory: &Path, endpoints: &[String]) -> Result<()> {
    let mut ports = Vec::new();
    for endpoint in endpoints {
        let config = configuration(directory, endpoint)?;
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        ports.push(listener.local_addr()?.port().to_string());
        thread::spawn(move || {
            for plain in listener.incoming().flatten() {
                let config = Arc::clone(&config);
                thread::spawn(move || serve(plain, config));
            }
        });
    }
    say(&ports.join(" "))?;
    copy(&mut stdin(), &mut sink())?;
    Ok(())
}

fn configuration(directory: &Path, endpoint: &str) -> Result<Arc<ServerConfig>> {
    let (mode, version) = endpoint.split_once(':').context("an endpoint is MODE:VERSION")?;
    let verifier = WebPkiClientVerifier::builder_with_provider(trusted(directory)?, provider());
    let verifier: Arc<dyn ClientCertVerifier> = match mode {
        "off" => Arc::new(NoClientAuth),
        "optional" => verifier.allow_unauthenticated().build()?,
        "required" => verifier.build()?,
        _ => bail!("{mode}: no such mode"),
    };
    let version = match version {
        "1.2" => &TLS12,
        "1.3" => &TLS13,
        _ => bail!("{version}: no such version"),
    };
    let (chain, key) = identity(directory, "server")?;
    let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[version])?;
    Ok(Arc::new(builder.with_client_cert_verifier(verifier).with_single_cert(chain, key)?))
}

fn serve(plain: TcpStream, config: Arc<ServerConfig>) {
    let port = plain.peer_addr().map_or(0, |peer| peer.port());
    if let Err(error) = answer(plain, config, port) {
        drop(say(&format!("refused {port} {error:#}")));
    }
}

fn answer(mut plain: TcpStream, config: Arc<ServerConfig>, port: u16) -> Result<()> {
    let mut connection = ServerConnection::new(config)?;
    connection.complete_io(&mut plain)?;
    let mut stream = BufReader::new(StreamOwned::new(connection, plain));
    let mut line = String::new();
    // The head ends with an empty line; no request has a body.
    while stream.read_line(&mut line)? > 2 {
        line.clear();
    }
    ensure!(!line.is_empty(), "the connection ended without a request");
    let mut stream = stream.into_inner();
    let connection = &stream.conn;
    let version = if connection.protocol_version() == Some(ProtocolVersion::TLSv1_2) { "1.2" } else { "1.3" };
    let resumed = if connection.handshake_kind() == Some(HandshakeKind::Resumed) { "yes" } else { "no" };
    let subject = connection.peer_certificates().and_then(|chain| common_name(chain.first()?)).unwrap_or("-".into());
    let body = format!("{port}\t{version}\t{resumed}\t{subject}\n");
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())?;
    stream.conn.send_close_notify();
    Ok(stream.flush()?)
}

/// The common name that stands last in a certificate: the issuer's comes before the subject's.
fn common_name(der: &[u8]) -> Option<String> {
    // An attribute type (2.5.4.3), then a UTF8String shorter than 128 bytes.
    const COMMON_NAME: [u8; 6] = [0x06, 0x03, 0x55, 0x04, 0x03, 0x0c];
    let at = der.windows(COMMON_NAME.len()).rposition(|window| window == COMMON_NAME)? + COMMON_NAME.len();
    let (length, rest) = der.get(at..)?.split_first()?;
    Some(String::from_utf8_lossy(rest.get(..usize::from(*length))?).into_owned())
}

fn say(line: &str) -> Result<()> {
    let mut stdout = stdout().lock();
    writeln!(stdout, "{line}")?;
    Ok(stdout.flush()?)
}
