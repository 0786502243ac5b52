//! Calls over kernel TLS, for the guest whose kernel has it: `ktls-case` makes the handshake with rustls, gives the kernel the keys
//! and goes on with plain system calls, as programs with rustls and `ktls` do. For each call it prints what must be said of it.

mod keys;
mod serve;
mod talk;

use std::{
    env,
    io::{BufRead as _, BufReader, Write as _, stdout},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio, id},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use self::{
    keys::{Offload, Session},
    talk::{Talk, Way},
};

/// How a connection is made: what both ends do differs in one thing from the first of them.
struct Case {
    name: &'static str,
    version: &'static str,
    /// Which directions' keys the client gives its kernel, and the server.
    client: Offload,
    server: Offload,
    way: Way,
    /// Calls the client makes before it gives its kernel keys.
    before: usize,
}

const PLAIN: Case =
    Case { name: "plain", version: "1.3", client: Offload::BOTH, server: Offload::BOTH, way: Way::Plain, before: 0 };

/// Every case.
const CASES: [Case; 10] = [
    PLAIN,
    Case { name: "tls12", version: "1.2", ..PLAIN },
    Case { name: "messages", way: Way::Messages, ..PLAIN },
    Case { name: "pieces", way: Way::Pieces, ..PLAIN },
    Case { name: "peeked", way: Way::Peeked, ..PLAIN },
    Case { name: "sendfile", way: Way::Sendfile, ..PLAIN },
    Case { name: "server-only", client: Offload::NONE, ..PLAIN },
    Case { name: "client-only", server: Offload::NONE, ..PLAIN },
    Case { name: "client-sends", client: Offload::SENT, server: Offload::NONE, ..PLAIN },
    Case { name: "client-late", before: 2, ..PLAIN },
];

/// A kind of call: route, header, kind of credential, verdict, status, outcome.
type Call = (&'static str, &'static str, Option<&'static str>, &'static str, u16, &'static str);

const CALLS: [Call; 4] = [
    ("open", "", None, "unauthenticated", 200, "accepted"),
    ("guarded", "", None, "unauthenticated", 401, "refused"),
    ("guarded", "Authorization: Bearer opaque-token-4711\r\n", Some("bearer-opaque"), "authenticated", 200, "accepted"),
    ("guarded", "X-API-Key: key-4711-4711\r\n", Some("api-key"), "weak", 200, "accepted"),
];

/// Calls of each case; `xtask` says the same.
const COUNT: usize = 8;
/// How long the processes outlive their calls.
const TOLD: Duration = Duration::from_secs(6);

fn main() -> Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    match &words[..] {
        [word, name] if word == "serve" => serve::run(case(name)?),
        [word] if word == "first" => Connections::start(&PLAIN)?.call(1).map(drop),
        [] => {
            let mut servers = Vec::new();
            for case in &CASES {
                let server = Connections::start(case)?;
                for expected in server.call(COUNT).with_context(|| case.name)? {
                    writeln!(stdout(), "{expected}")?;
                }
                servers.push(server);
            }
            // Calls whose answers are not seen are told of after seconds: of a process that is gone there is no executable.
            thread::sleep(TOLD);
            Ok(())
        }
        _ => bail!("usage: ktls-case [first]"),
    }
}

fn case(name: &str) -> Result<&'static Case> {
    CASES.iter().find(|case| case.name == name).with_context(|| format!("no case {name}"))
}

/// The server of a case in its process, and where it listens.
struct Connections {
    case: &'static Case,
    server: Child,
    program: PathBuf,
    address: SocketAddr,
}

impl Drop for Connections {
    fn drop(&mut self) {
        drop(self.server.kill());
        drop(self.server.wait());
    }
}

impl Connections {
    fn start(case: &'static Case) -> Result<Self> {
        let program = env::current_exe()?;
        let mut command = Command::new(&program);
        let mut server = command.args(["serve", case.name]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let output = server.stdout.take().context("standard output is piped")?;
        let line = BufReader::new(output).lines().next().context("the server says nothing")??;
        Ok(Self { case, server, program, address: line.parse()? })
    }

    /// Makes calls over one connection, and says what must be said of each.
    fn call(&self, count: usize) -> Result<Vec<Value>> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        let mut session = Session::client(stream, self.case.version)?;
        let mut expected = Vec::new();
        for number in 0..self.case.before.min(count) {
            let (request, call) = self.request(number);
            let status = talk::exchange(&mut Talk::Library(&mut session), &request)?;
            expected.push(self.expected(number, call, status)?);
        }
        let mut talk = session.offload(self.case.client, self.case.way)?;
        for number in self.case.before..count {
            let (request, call) = self.request(number);
            let status = talk::exchange(&mut talk, &request)?;
            expected.push(self.expected(number, call, status)?);
        }
        Ok(expected)
    }

    fn path(&self, number: usize) -> String {
        format!("/{}/{}-{number}", CALLS[number % CALLS.len()].0, self.case.name)
    }

    fn request(&self, number: usize) -> (String, Call) {
        let call = CALLS[number % CALLS.len()];
        (format!("GET {} HTTP/1.1\r\nHost: {}\r\n{}\r\n", self.path(number), self.address, call.1), call)
    }

    /// What must be said of a call that was answered with `status`, where the client could read that.
    fn expected(&self, number: usize, call: Call, answered: Option<u16>) -> Result<Value> {
        let (_, _, credential, verdict, status, outcome) = call;
        let path = self.path(number);
        ensure!(answered.is_none_or(|answered| answered == status), "{path} answered {answered:?}, not {status}");
        let mut expected = json!({
            "kind": "exchange",
            "transport": {"security": "tls"},
            "source": {"process": {"pid": id(), "executable": self.program}},
            "destination": {
                "port": self.address.port(), "process": {"pid": self.server.id(), "executable": self.program},
            },
            "request": {"method": "GET", "path": path},
            "credentials": credential.iter().map(|kind| json!({"kind": kind})).collect::<Vec<_>>(),
        });
        if self.case.client == Offload::SENT {
            // No end shows the answers: nothing may be said of them. The outcome of such calls has that name.
            (expected["response"], expected["outcome"]) = (Value::Null, json!("unanswered"));
        } else {
            (expected["response"], expected["outcome"]) = (json!({"status": status}), json!(outcome));
        }
        expected["verdict"] = verdict.into();
        if self.case.client == Offload::SENT && credential.is_none() {
            (expected["verdict"], expected["unknown_reason"]) = (json!("unknown"), json!("gap"));
        }
        Ok(expected)
    }
}
