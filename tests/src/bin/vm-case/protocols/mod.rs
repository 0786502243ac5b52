//! Calls in other protocols than plain HTTP/1.1, and through an address that is translated on the way: for each, one line of JSON
//! that says under which name it stands in a table, how to find what was said of it, and what must be said of it.

mod certificates;
mod http2;
mod nat;
mod tls;

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Read as _, Write as _, stdin, stdout},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio, id},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use auditor_tests::http1::Responses;
use serde_json::{Value, json};

use self::http2::Reads;
use super::{CASES, Server, answer};

/// What the server listens for, in the order in which it prints its addresses: HTTP/1.1, HTTP/2 that is read frame by frame, and by what
/// is there, then each kind of TLS.
const PLAIN: usize = 3;

/// Listens, prints the addresses, and answers until standard input ends. Certificates lie in `directory`.
pub(crate) fn serve(directory: &Path) -> Result<()> {
    let plain =
        listen(|stream| drop(stream.try_clone().map_err(Into::into).and_then(|writer| answer(stream, writer))))?;
    let mut addresses = vec![plain];
    for reads in [Reads::Frames, Reads::Everything] {
        addresses.push(listen(move |stream| drop(http2::answer(stream, reads)))?);
    }
    for kind in tls::SERVERS {
        let config = kind.server(directory)?;
        addresses.push(listen(move |stream| drop(tls::answer(stream, &config)))?);
    }
    addresses.iter().try_for_each(|address| writeln!(stdout(), "{address}"))?;
    stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Listens on a port of the loopback address; each connection has a thread.
fn listen(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            thread::spawn(move || serve(stream));
        }
    });
    Ok(address)
}

/// Makes every call and prints what must be said of it. Each stands under `column`; `find` is what only the record of it has.
pub(crate) fn call() -> Result<()> {
    let directory = env::temp_dir().join(format!("vm-case-{}", id()));
    fs::create_dir_all(&directory)?;
    certificates::create(&directory)?;
    let mut server = Server(
        Command::new(env::current_exe()?)
            .arg("serve-protocols")
            .arg(&directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?,
    );
    let output = server.0.stdout.take().context("standard output is piped")?;
    let lines = BufReader::new(output).lines().take(PLAIN + tls::SERVERS.len());
    let addresses: Vec<SocketAddr> = lines.map(|line| Ok(line?.parse()?)).collect::<Result<_>>()?;
    let (plain, secure) = addresses.split_at_checked(PLAIN).context("the server ended")?;
    let ends = Ends { client: id(), server: server.0.id() };
    for (kind, address) in tls::SERVERS.iter().zip(secure) {
        for client in kind.clients() {
            let (port, expected) = client.connect(*address, &directory)?;
            ends.say(kind.column(), &json!({"kind": "connection", "source": {"port": port}}), expected)?;
        }
    }
    http2::call(plain[1], "HTTP/2", &ends)?;
    http2::carry(plain[2], "HTTP/2 bodies", &ends)?;
    match nat::translate(&addresses) {
        Ok(translated) => {
            http1(translated[0], "DNAT", &ends)?;
            http2::call(translated[1], "DNAT HTTP/2", &ends)?;
            for (kind, address) in tls::SERVERS.iter().zip(&translated[PLAIN..]) {
                for client in kind.clients().iter().take(1) {
                    let (port, expected) = client.connect(*address, &directory)?;
                    ends.say("DNAT TLS", &json!({"kind": "connection", "source": {"port": port}}), expected)?;
                }
            }
        }
        Err(error) => writeln!(stdout(), "nothing is translated: {error:#}")?,
    }
    Ok(fs::remove_dir_all(directory)?)
}

/// Calls over HTTP/1.1, with and without credential, on one connection.
fn http1(address: SocketAddr, column: &str, ends: &Ends) -> Result<()> {
    let mut connection = Responses::new(TcpStream::connect(address)?);
    for number in 0..2 * CASES.len() {
        let (route, header, credential, verdict, status, outcome) = CASES[number % CASES.len()];
        let path = format!("/{route}{}", path(column, "http1", number));
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{header}\r\n");
        connection.get_mut().write_all(request.as_bytes())?;
        let response = connection.next("GET", false)?;
        ensure!(response.status == status, "{path} answered {}, not {status}", response.status);
        let expected = json!({
            "protocol": "http/1.1", "verdict": verdict, "outcome": outcome, "response": {"status": status},
            "credentials": credential.iter().map(|kind| json!({"kind": kind})).collect::<Vec<_>>(),
        });
        ends.say(column, &json!({"request": {"path": path}}), expected)?;
    }
    Ok(())
}

/// The path of a call of one column.
fn path(column: &str, what: &str, number: usize) -> String {
    format!("/{}/{what}-{number}", column.replace(['/', ' '], "-").to_lowercase())
}

/// The processes of both ends.
struct Ends {
    client: u32,
    server: u32,
}

impl Ends {
    /// Prints what must be said of a call.
    fn say(&self, column: &str, find: &Value, mut expected: Value) -> Result<()> {
        expected["reporter"] = json!("destination");
        let line =
            json!({"column": column, "find": find, "client": self.client, "server": self.server, "expected": expected});
        Ok(writeln!(stdout(), "{line}")?)
    }
}
