//! The client.

use std::{
    collections::HashMap,
    io::{BufRead as _, Read as _, Write as _, stdin, stdout},
    net::TcpStream,
    path::Path,
    sync::Arc,
};

use anyhow::{Context as _, Result};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, KeyLogFile, StreamOwned};

use crate::{identity, provider, trusted};

pub(crate) fn run(directory: &Path) -> Result<()> {
    let mut groups: HashMap<String, Arc<ClientConfig>> = HashMap::new();
    say("ready")?;
    for line in stdin().lock().lines() {
        let line = line?;
        let fields: Vec<&str> = line.split('\t').collect();
        let [id, group, port, certificate] = fields[..] else { anyhow::bail!("not a row: {line:?}") };
        if !groups.contains_key(group) {
            groups.insert(group.to_owned(), configuration(directory, certificate)?);
        }
        let plain = TcpStream::connect(("127.0.0.1", port.parse()?))?;
        let own = plain.local_addr()?.port();
        match connect(plain, Arc::clone(&groups[group])) {
            Ok((status, resumed, answer)) => say(&format!("{id}\t{own}\t{status}\t{resumed}\t{answer}"))?,
            Err(error) => say(&format!("{id}\t{own}\terror\t{}", format!("{error:#}").replace(['\t', '\n'], " ")))?,
        }
    }
    Ok(())
}

fn configuration(directory: &Path, certificate: &str) -> Result<Arc<ClientConfig>> {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let builder = builder.with_root_certificates(trusted(directory)?);
    let mut config = match certificate {
        "-" => builder.with_no_client_auth(),
        name => {
            let (chain, key) = identity(directory, name)?;
            builder.with_client_auth_cert(chain, key)?
        }
    };
    config.key_log = Arc::new(KeyLogFile::new());
    Ok(Arc::new(config))
}

/// The status, whether the session was resumed, and the server's line.
fn connect(plain: TcpStream, config: Arc<ClientConfig>) -> Result<(String, &'static str, String)> {
    let mut stream = StreamOwned::new(ClientConnection::new(config, "localhost".try_into()?)?, plain);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let resumed = if stream.conn.handshake_kind() == Some(HandshakeKind::Resumed) { "yes" } else { "no" };
    stream.conn.send_close_notify();
    stream.flush()?;
    let status = text.split(' ').nth(1).context("the connection ended without an answer")?.to_owned();
    let answer = text.lines().rev().find(|line| line.contains('\t')).with_context(|| text.clone())?;
    Ok((status, resumed, answer.to_owned()))
}

fn say(line: &str) -> Result<()> {
    let mut stdout = stdout().lock();
    writeln!(stdout, "{line}")?;
    Ok(stdout.flush()?)
}
