//! Servers that are woken by the first bytes of a connection (`TCP_DEFER_ACCEPT`): they have no socket yet when those come, so their
//! end of the connection misses the first request. Real ones, against what the auditor says of each call.

use std::{
    collections::HashMap,
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use auditor_tests::{
    auditor::{Auditor, port},
    http2::SETTINGS,
    oracle::AMPLE,
    process::{PATIENCE, Running, until},
    servers::{Place, nginx},
    tools::{program, source},
};
use auditor_wire::http2::{
    frame,
    frame::{END_HEADERS, END_STREAM, HEADERS, PREFACE, RST_STREAM},
};
use serde_json::{Value, json};

/// Connections to each server in each protocol.
const CONNECTIONS: usize = 200;
/// Calls on each.
const CALLS: usize = 3;
/// A flag of SETTINGS (RFC 9113 section 6.5).
const ACK: u8 = 1;
/// Another kind of frame (RFC 9113 section 6.8).
const GOAWAY: u8 = 7;
/// Where Debian puts Apache's modules.
const MODULES: &str = "/usr/lib/apache2/modules";

/// A server, as it is called.
struct Target {
    name: &'static str,
    socket: SocketAddr,
    protocol: &'static str,
}

impl Target {
    fn path(&self, connection: usize, call: usize) -> String {
        format!("/{}/{}/{connection}/{call}", self.name, self.protocol)
    }

    /// The credential of a connection's calls: every other one has one. No other server gets it, which would be a finding.
    fn bearer(&self, connection: usize) -> Option<String> {
        (connection % 2 == 1).then(|| format!("Bearer secret-{}-{connection}", self.name))
    }

    /// Makes the calls of one connection, the first with the first bytes.
    fn call(&self, connection: usize) -> Result<()> {
        let mut stream = TcpStream::connect(self.socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        for call in 0..CALLS {
            let path = self.path(connection, call);
            if self.protocol == "http/2" {
                call_http2(&mut stream, &path, call, self.bearer(connection).as_deref())?;
            } else {
                call_http1(&mut stream, &path, self.bearer(connection).as_deref())?;
            }
        }
        Ok(())
    }
}

fn call_http1(stream: &mut TcpStream, path: &str, bearer: Option<&str>) -> Result<()> {
    let credential = bearer.map_or_else(String::new, |bearer| format!("Authorization: {bearer}\r\n"));
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: inside\r\n{credential}\r\n").as_bytes())?;
    let (mut answer, mut some) = (Vec::new(), [0; 4096]);
    loop {
        let count = stream.read(&mut some)?;
        ensure!(count > 0, "no whole answer: {}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&some[..count]);
        let text = String::from_utf8_lossy(&answer).to_ascii_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).context("no length")?;
        if body.len() == length.trim().parse::<usize>()? {
            return Ok(());
        }
    }
}

/// The first call's head puts its host and credential into HPACK's table, those of later ones stand there.
fn call_http2(stream: &mut TcpStream, path: &str, call: usize, bearer: Option<&str>) -> Result<()> {
    let literal = |first: u8, value: &str| {
        let length = u8::try_from(value.len()).expect("a short value");
        [&[first, length], value.as_bytes()].concat()
    };
    let mut block = [vec![0x82, 0x86], literal(0x04, path)].concat();
    match (call, bearer) {
        (0, bearer) => {
            block.extend(literal(0x41, "inside"));
            block.extend(bearer.map_or_else(Vec::new, |bearer| literal(0x57, bearer)));
        }
        (_, Some(_)) => block.extend([0xbf, 0xbe]),
        (_, None) => block.push(0xbe),
    }
    let id = u32::try_from(2 * call + 1)?;
    let mut bytes = if call == 0 { [&PREFACE[..], &frame(SETTINGS, 0, 0, &[])].concat() } else { Vec::new() };
    bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, id, &block));
    stream.write_all(&bytes)?;
    loop {
        let mut header = [0; 9];
        stream.read_exact(&mut header)?;
        let [a, b, c, kind, flags, number @ ..] = header;
        let mut payload = vec![0; usize::try_from(u32::from_be_bytes([0, a, b, c]))?];
        stream.read_exact(&mut payload)?;
        if kind == SETTINGS && flags & ACK == 0 {
            stream.write_all(&frame(SETTINGS, ACK, 0, &[]))?;
        }
        let ours = u32::from_be_bytes(number) == id;
        ensure!(kind != GOAWAY && !(ours && kind == RST_STREAM), "the server gave up: frame {header:?}");
        if ours && kind <= HEADERS && flags & END_STREAM != 0 {
            return Ok(());
        }
    }
}

fn httpd(directory: &Path) -> Result<(Running, SocketAddr)> {
    let socket = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
    let text = fs::read_to_string(source("servers/deferred.httpd.conf"))?;
    let text = text.replace("{directory}", &directory.display().to_string()).replace("{modules}", MODULES);
    fs::write(directory.join("httpd.conf"), text.replace("{port}", &socket.port().to_string()))?;
    fs::write(directory.join("answer"), "ok\n")?;
    // Its children are nobody.
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
    let mut command = Command::new(program("apache2")?);
    command.args(["-D", "FOREGROUND", "-f"]).arg(directory.join("httpd.conf"));
    let mut process = Running::start("apache2", command)?;
    until("apache2 listens", || {
        ensure!(process.wait(Duration::from_millis(1)).is_err(), "it ended");
        Ok(TcpStream::connect(socket).ok())
    })?;
    Ok((process, socket))
}

/// What is wrong with what was said of a call.
fn wrong(target: &Target, connection: usize, call: usize, told: &[&Value]) -> Option<String> {
    let path = target.path(connection, call);
    let [record] = told else { return Some(format!("{path}: {} records {told:?}", told.len())) };
    let expected = match target.bearer(connection) {
        Some(_) => json!([target.protocol, "authenticated", "accepted", 200, 1]),
        None => json!([target.protocol, "unauthenticated", "refused", 403, 0]),
    };
    let credentials = record["credentials"].as_array().map_or(0, Vec::len);
    let status = &record["response"]["status"];
    let said = json!([record["protocol"], record["verdict"], record["outcome"], status, credentials]);
    // What shows that the server deferred: the client alone saw the first request.
    let reporter = if call == 0 { "source" } else { "destination" };
    let early = target.protocol == "http/2" || record["reporter"] == reporter;
    (said != expected || !early).then(|| format!("{path}: {said}, not {expected}, {record}"))
}

#[test]
fn calls_to_servers_that_are_woken_by_the_first_bytes_are_told_of_once() {
    let directory = tempfile::tempdir().unwrap();
    let loopback = "127.0.0.1".parse().unwrap();
    let place = Place { addresses: &[loopback, loopback], namespace: None, directory: directory.path(), backend: None };
    let (_nginx, sockets) = nginx("servers/deferred.nginx.conf", place).unwrap();
    let (_httpd, socket) = httpd(directory.path()).unwrap();
    let target = |name, socket, protocol| Target { name, socket, protocol };
    let targets = [
        target("nginx", sockets[0], "http/1.1"),
        target("nginx", sockets[1], "http/2"),
        target("httpd", socket, "http/1.1"),
        target("httpd", socket, "http/2"),
    ];
    let mut auditor = Auditor::watch(directory.path(), &["--ring-bytes", AMPLE]).unwrap();
    for target in &targets {
        for connection in 0..CONNECTIONS {
            let made = target.call(connection);
            made.with_context(|| target.path(connection, 0)).unwrap();
        }
    }
    let ports: Vec<u16> = targets.iter().map(|target| target.socket.port()).collect();
    let ours = |record: &Value| port(record, "destination").is_some_and(|port| ports.contains(&port));
    let (mut looked_at, mut count) = (0, 0);
    let waited = auditor.wait_until(PATIENCE, |records| {
        count += records[looked_at..].iter().filter(|record| ours(record)).count();
        looked_at = records.len();
        count >= targets.len() * CONNECTIONS * CALLS
    });
    let finished = auditor.stop().unwrap();
    let mut told: HashMap<&str, Vec<&Value>> = HashMap::new();
    for record in finished.records.iter().filter(|record| ours(record)) {
        told.entry(record["request"]["path"].as_str().unwrap_or_default()).or_default().push(record);
    }
    let mut wrongs: Vec<String> = waited.err().map(|error| error.to_string()).into_iter().collect();
    wrongs.extend(told.remove("").map(|others| format!("{} without a path: {:?}", others.len(), others[0])));
    for target in &targets {
        for (connection, call) in (0..CONNECTIONS).flat_map(|at| (0..CALLS).map(move |call| (at, call))) {
            let path = target.path(connection, call);
            let records = told.get(path.as_str()).map_or(&[][..], Vec::as_slice);
            wrongs.extend(wrong(target, connection, call, records));
        }
    }
    let shown = wrongs.iter().take(10).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(wrongs.is_empty(), "{} wrong:\n{shown}\n{}", wrongs.len(), finished.log);
}
