//! HTTP calls between two processes for machines that have nothing but a kernel: a server in a second process, keep-alive
//! connections over IPv4 and IPv6, and for each call made one line of JSON that says what must be said of it.
//!
//! `vm-case CALLS` makes that many calls on each connection and ends. `vm-case ways` makes one call each way that bytes get into a
//! socket, `vm-case protocols` calls in other protocols and through DNAT. `vm-case faults` steps the machine's clock and takes a
//! processor away between calls. `vm-case held` counts the eBPF programs, links and maps there are.

mod faults;
mod protocols;
mod ways;

use std::{
    env,
    io::{BufRead as _, BufReader, Read, Write, stdin, stdout},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio, id},
    thread,
};

use anyhow::{Context as _, Result, bail, ensure};
use auditor_tests::{
    http1::{Responses, header},
    kernel::Held,
};
use serde_json::json;

/// A kind of call: route, header, kind of credential, verdict, status, outcome.
type Case = (&'static str, &'static str, Option<&'static str>, &'static str, u16, &'static str);

const CASES: [Case; 4] = [
    ("open", "", None, "unauthenticated", 200, "accepted"),
    ("guarded", "", None, "unauthenticated", 401, "refused"),
    ("guarded", "Authorization: Bearer opaque-token-4711\r\n", Some("bearer-opaque"), "authenticated", 200, "accepted"),
    ("guarded", "X-API-Key: key-4711-4711\r\n", Some("api-key"), "weak", 200, "accepted"),
];

fn main() -> Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    match &words[..] {
        [word] if word == "serve" => serve(),
        [word] if word == "serve-ways" => ways::serve(),
        [word] if word == "ways" => ways::call(),
        [word, directory] if word == "serve-protocols" => protocols::serve(Path::new(directory)),
        [word] if word == "protocols" => protocols::call(),
        [word] if word == "faults" => faults::call(),
        [word] if word == "held" => {
            let Held { programs, links, maps } = Held::all()?;
            Ok(writeln!(stdout(), "{} programs, {} links, {} maps", programs.len(), links.len(), maps.len())?)
        }
        [calls] => call(calls.parse().with_context(|| format!("{calls}: not a number of calls"))?),
        _ => bail!("usage: vm-case CALLS|ways|protocols|faults|held"),
    }
}

/// Listens on an ephemeral port of both loopbacks, prints the ports, and answers until standard input ends.
fn serve() -> Result<()> {
    let v4 = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let v6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0))?;
    writeln!(stdout(), "{}\n{}", v4.local_addr()?, v6.local_addr()?)?;
    for listener in [v4, v6] {
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that goes away ends its connection, nothing else.
                thread::spawn(move || drop(stream.try_clone().map_err(Into::into).and_then(|w| answer(stream, w))));
            }
        });
    }
    stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn answer(stream: impl Read, mut writer: impl Write) -> Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let known = header(&head, "authorization").or(header(&head, "x-api-key")).is_some();
        let status = if head.starts_with("GET /guarded/") && !known { "401 Unauthorized" } else { "200 OK" };
        writer.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nok").as_bytes())?;
    }
}

/// Ends the server with the client.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The server in its process, what it listens on, and where it is told what must be said of calls to it.
struct Calls {
    server: Server,
    addresses: Vec<SocketAddr>,
    program: PathBuf,
}

impl Calls {
    fn start() -> Result<Self> {
        let program = env::current_exe()?;
        let mut server =
            Server(Command::new(&program).arg("serve").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?);
        let output = server.0.stdout.take().context("standard output is piped")?;
        let lines = BufReader::new(output).lines().take(2);
        let addresses = lines.map(|line| Ok(line?.parse()?)).collect::<Result<_>>()?;
        Ok(Self { server, addresses, program })
    }

    /// Makes the call of a number, whose path ends with `name`, and prints what must be said of it.
    fn make(&self, connection: &mut Responses<TcpStream>, number: usize, name: &str) -> Result<()> {
        let (route, header, credential, verdict, status, outcome) = CASES[number % CASES.len()];
        let (path, address) = (format!("/{route}/{name}"), connection.get_mut().peer_addr()?);
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{header}\r\n");
        connection.get_mut().write_all(request.as_bytes())?;
        let response = connection.next("GET", false)?;
        ensure!(response.status == status, "{path} answered {}, not {status}", response.status);
        let expected = json!({
            "source": {"process": {"pid": id(), "executable": self.program}},
            "destination": {"port": address.port(), "process": {"pid": self.server.0.id(), "executable": self.program}},
            "request": {"method": "GET", "path": path},
            "response": {"status": status},
            "credentials": credential.iter().map(|kind| json!({"kind": kind})).collect::<Vec<_>>(),
            "verdict": verdict,
            "outcome": outcome,
        });
        Ok(writeln!(stdout(), "{expected}")?)
    }
}

fn call(count: usize) -> Result<()> {
    let calls = Calls::start()?;
    for address in &calls.addresses {
        let mut connection = Responses::new(TcpStream::connect(address)?);
        for number in 0..count {
            calls.make(&mut connection, number, &format!("{}-{number}", address.port()))?;
        }
    }
    Ok(())
}
