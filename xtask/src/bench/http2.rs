//! What the auditor costs HTTP/2 in clear: many streams on few connections, flat out and at a fixed rate, and unary calls of gRPC.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result};

use super::{
    Bench, Watched, each, micros,
    rig::{LOAD_CPU, Load, Running, parse_h2load},
    table::Row,
};
use crate::process::{find, read};

/// Connections of the load, and streams that are open on each.
const CONNECTIONS: u32 = 16;
const STREAMS: u32 = 10;
/// A method of a service, as a file for the server of gRPC.
const SERVICE: &str = "inventory.Inventory";
const METHOD: &str = "Reserve";
/// A message of ten bytes behind its length (gRPC over HTTP/2, Length-Prefixed-Message).
const MESSAGE: &[u8] = b"\0\0\0\0\x0a0123456789";
/// The file that holds it for the client.
const SENT: &str = "message";

/// nghttpd on the servers' processor, which answers a unary call with a message and the status behind it.
///
/// # Errors
/// When nghttpd is missing.
pub(crate) fn grpc_server(folder: &Path, port: u16) -> Result<Running> {
    let root = folder.join("grpc");
    fs::create_dir_all(root.join(SERVICE))?;
    fs::write(root.join(SERVICE).join(METHOD), MESSAGE)?;
    fs::write(folder.join(SENT), MESSAGE)?;
    let nghttpd = find("nghttpd").context("nghttpd is missing: run `cargo xtask setup --tests`")?;
    let mut command = Command::new("taskset");
    command.args(["-c", "0"]).arg(nghttpd).args(["--no-tls", "--address=127.0.0.1", "--trailer=grpc-status: 0", "-d"]);
    Running::start(command.arg(root).arg(port.to_string()))
}

type Pairs = Vec<((Load, f64), Watched)>;

impl Bench {
    /// The rows of HTTP/2 and gRPC.
    ///
    /// # Errors
    /// When a part of the rig fails.
    pub(super) fn http2_rows(&self) -> Result<Vec<Row>> {
        let (rate, seconds) = (self.options.rate, self.options.seconds);
        let url = format!("http://127.0.0.1:{}/items/42", self.server.http2_port);
        let flat_out = self.pairs("HTTP/2 flat out", &|| load(&url, None, None, seconds))?;
        let fixed = self.pairs("HTTP/2 at a fixed rate", &|| load(&url, None, Some(rate), seconds))?;
        let grpc_url = format!("http://127.0.0.1:{}/{SERVICE}/{METHOD}", self.server.grpc_port);
        let message = self.folder.join(SENT);
        let grpc = self.pairs("gRPC", &|| load(&grpc_url, Some(&message), Some(rate), seconds))?;
        let mut rows = vec![
            Row::spread("HTTP/2 flat out, without the auditor", "streams/s", 0, &each(&flat_out, |pair| pair.0.0.rate)),
            Row::spread(
                "HTTP/2 flat out, with / without",
                "ratio",
                3,
                &each(&flat_out, |(without, with)| with.load.rate / without.0.rate),
            ),
        ];
        rows.extend(cost("HTTP/2 flat out", &flat_out));
        rows.extend(cost(&format!("HTTP/2 at {rate}/s"), &fixed));
        rows.push(answering(&format!("HTTP/2 at {rate}/s"), &fixed));
        rows.extend(cost(&format!("unary gRPC at {rate}/s"), &grpc));
        rows.push(answering(&format!("unary gRPC at {rate}/s"), &grpc));
        let lost: f64 = [flat_out, fixed, grpc].iter().flatten().map(|(_, with)| with.counted.lost).sum();
        rows.push(Row::value("records lost, HTTP/2 and gRPC", "records", 0, lost).at_most(0.0));
        Ok(rows)
    }
}

/// What a stream costs the auditor, and whether all of them were judged.
fn cost(name: &str, pairs: &Pairs) -> [Row; 2] {
    let judged: f64 = pairs.iter().map(|(_, with)| with.counted.exchanges).sum();
    let made: f64 = pairs.iter().map(|(_, with)| with.load.requests).sum();
    let costs = each(pairs, |(_, with)| micros(with.counted.cpu_seconds, with.load.requests));
    [
        Row::spread(&format!("auditor CPU per stream, {name}"), "us", 2, &costs),
        Row::value(&format!("streams judged / made, {name}"), "ratio", 4, judged / made),
    ]
}

/// What a stream costs the server more than without the auditor.
fn answering(name: &str, pairs: &Pairs) -> Row {
    let ratio = |(without, with): &((Load, f64), Watched)| {
        (with.server_cpu / with.load.requests) / (without.1 / without.0.requests)
    };
    Row::spread(&format!("server CPU per stream, {name}, with / without"), "ratio", 3, &each(pairs, ratio))
}

/// Streams of a load generator: as many as are answered, or so many a second; with a message, unary calls of gRPC.
fn load(url: &str, message: Option<&Path>, rate: Option<u32>, seconds: u32) -> Result<Load> {
    let numbers = [CONNECTIONS, STREAMS, seconds].map(|number| number.to_string());
    let mut command = Command::new("taskset");
    command.args(["-c", LOAD_CPU, "h2load", "-t1", "-c", &numbers[0], "-m", &numbers[1], "-D", &numbers[2]]);
    if let Some(rate) = rate {
        command.args(["--rps", &(rate / CONNECTIONS).to_string()]);
    }
    if let Some(message) = message {
        command.arg("-d").arg(message).args(["-H", "content-type: application/grpc", "-H", "te: trailers"]);
    }
    let text = read(command.arg(url))?;
    parse_h2load(&text).with_context(|| format!("h2load said {text:?}"))
}
