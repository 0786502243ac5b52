//! The TLS reader held against recorded connections whose truth is known. `AUDITOR_TLS_CORPUS` names the file: one connection a
//! line, as JSON, compressed with xz.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use auditor_wire::segment::Timestamp;
use auditor_wire::tls::{Accepted, ClientCertificate, Endpoint, Endpoints, Facts, Session, Side};
use lzma_rust2::XzReader;
use proptest::prelude::*;
use serde_json::Value;

/// Bytes of each direction that the kernel copies before it copies headers of records only.
const COPIED: u64 = 4096;

/// A recorded connection.
#[derive(Clone, Debug)]
struct Row {
    case: String,
    /// The server and how it is set up.
    server: String,
    /// Whether that server asks every client for a certificate, or none.
    asks: Option<bool>,
    expected: ClientCertificate,
    accepted: Accepted,
    happened: Vec<(Side, Happened)>,
}

#[derive(Clone, Debug)]
enum Happened {
    /// Content type, length of the body, the begin of the body.
    Record(u8, u16, Vec<u8>),
    End {
        reset: bool,
    },
}

fn path() -> PathBuf {
    let given = std::env::var_os("AUDITOR_TLS_CORPUS").map(PathBuf::from);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.join(given.unwrap_or_else(|| "../shared/tls/cases.jsonl.xz".into()))
}

fn rows() -> Vec<Row> {
    let path = path();
    let file = File::open(&path)
        .unwrap_or_else(|error| panic!("no corpus at {}: {error}; name one with AUDITOR_TLS_CORPUS", path.display()));
    let lines = BufReader::new(XzReader::new(file, true)).lines();
    let rows: Vec<Row> = lines.map(|line| row(&line.expect("a readable corpus"))).collect();
    assert!(!rows.is_empty(), "{} is empty", path.display());
    rows
}

fn row(line: &str) -> Row {
    let value: Value = serde_json::from_str(line).expect("a line of JSON");
    let text = |key: &str| value[key].as_str().unwrap_or_else(|| panic!("no {key} in {line}"));
    let expected = match text("expected") {
        "no-client-auth" => ClientCertificate::None,
        "empty-certificate" => ClientCertificate::Empty,
        "client-auth-presented" => ClientCertificate::Presented,
        "resumed-unknown" => ClientCertificate::Resumed,
        "rejected" => ClientCertificate::Rejected,
        "undetermined" => ClientCertificate::Undetermined,
        other => panic!("expected {other}"),
    };
    let accepted = match text("tls_accepted") {
        "yes" => Accepted::Yes,
        "no" => Accepted::No,
        "unknown" => Accepted::Unknown,
        other => panic!("tls_accepted {other}"),
    };
    let happened = value["records"].as_array().expect("records").iter().map(happened).collect();
    // Servers that were set up to send no tickets are others than those of the same name that do.
    let tickets = !text("case").starts_with("no tickets");
    let server = [text("server"), text("server_version"), text("server_mode"), if tickets { "" } else { "no tickets" }];
    let asks = match text("server_mode") {
        "none" => Some(false),
        "req" => Some(true),
        _ => None,
    };
    Row { case: text("case").to_owned(), server: server.join(" "), asks, expected, accepted, happened }
}

fn happened(record: &Value) -> (Side, Happened) {
    let side = if record[0] == "c" { Side::Client } else { Side::Server };
    let what = match record[1].as_str() {
        Some(end) => Happened::End { reset: end == "rst" },
        None => {
            let number = |at: usize| record[at].as_u64().expect("a number");
            let content = u8::try_from(number(1)).expect("a content type");
            let length = u16::try_from(number(2)).expect("a length of a record");
            Happened::Record(content, length, bytes(record[3].as_str().unwrap_or_default()))
        }
    };
    (side, what)
}

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("a hexadecimal digit");
    let pairs = hex.as_bytes().chunks(2);
    pairs.map(|pair| u8::try_from(digit(pair[0]) * 16 + digit(pair[1])).expect("two digits")).collect()
}

/// How a connection is given to the reader.
trait Cut {
    /// How many of the next bytes of a side are given, and whether a header must be whole.
    fn copied(&mut self, side: Side, content: u8, body: &[u8], length: u16) -> usize;
}

/// All that was recorded.
struct Whole;

impl Cut for Whole {
    fn copied(&mut self, _: Side, _: u8, body: &[u8], _: u16) -> usize {
        body.len()
    }
}

/// The first bytes of each direction, then headers only.
#[derive(Default)]
struct Kernel {
    passed: [u64; 2],
}

impl Cut for Kernel {
    fn copied(&mut self, side: Side, _: u8, body: &[u8], length: u16) -> usize {
        let passed = &mut self.passed[usize::from(side == Side::Server)];
        let room = COPIED.saturating_sub(*passed + 5);
        *passed += 5 + u64::from(length);
        body.len().min(usize::try_from(room).expect("a small number"))
    }
}

fn replay(row: &Row, cut: &mut impl Cut) -> Session {
    let mut session = Session::new();
    for (side, happened) in &row.happened {
        match happened {
            Happened::End { reset } => session.end(*side, *reset),
            Happened::Record(content, length, body) => {
                let [high, low] = length.to_be_bytes();
                session.data(*side, &[*content, 3, 3, high, low]);
                let copied = cut.copied(*side, *content, body, *length);
                session.data(*side, &body[..copied]);
                session.skip(*side, u64::from(*length) - copied as u64);
            }
        }
        assert!(session.buffered() <= Session::MOST_BUFFERED, "{}", row.case);
    }
    session.finish();
    session
}

/// What was decided of all rows.
#[derive(Default)]
struct Matrix {
    cells: BTreeMap<(&'static str, &'static str), usize>,
    right: usize,
    all: usize,
    wrong: Vec<String>,
    /// Called mutual TLS, or the continuation of it, and is not; or the other way round where a session goes on.
    false_mutual: Vec<String>,
}

impl Matrix {
    /// Each row alone.
    fn alone<C: Cut>(rows: &[Row], mut cut: impl FnMut() -> C) -> Self {
        let mut matrix = Self::default();
        for row in rows {
            matrix.add(row, &replay(row, &mut cut()).facts());
        }
        matrix
    }

    /// Each row with what those before it showed of the server.
    fn in_turn<C: Cut>(rows: &[Row], mut cut: impl FnMut() -> C) -> Self {
        let mut matrix = Self::default();
        let mut servers = BTreeMap::new();
        let mut endpoints = Endpoints::new(1000, Duration::from_secs(3600));
        for (row, second) in rows.iter().zip(1..) {
            let next = u16::try_from(servers.len()).expect("some servers");
            let port = *servers.entry(row.server.as_str()).or_insert(next);
            let endpoint = Endpoint { address: ([127, 0, 0, 1], port).into(), netns: None };
            let session = replay(row, &mut cut());
            matrix.add(row, &endpoints.conclude(endpoint, &session, Timestamp(second * 1_000_000_000)));
        }
        matrix
    }

    fn add(&mut self, row: &Row, facts: &Facts) {
        let client = facts.client;
        let decided = format!("{} accepted {}", client.certificate.as_str(), client.accepted.as_str());
        let truth = format!("{} accepted {}", row.expected.as_str(), row.accepted.as_str());
        *self.cells.entry((row.expected.as_str(), client.certificate.as_str())).or_default() += 1;
        // Where nothing is determined, nothing is said of acceptance either.
        let right = client.certificate == row.expected
            && (client.accepted == row.accepted || row.expected == ClientCertificate::Undetermined);
        self.all += 1;
        self.right += usize::from(right);
        if !right {
            self.wrong.push(format!("{}: {truth}, decided {decided}", row.case));
        }
        let mutual = |certificate, accepted| certificate == ClientCertificate::Presented && accepted == Accepted::Yes;
        let inherited = row.asks.is_some() && client.inherited.is_some() && client.inherited != row.asks;
        if inherited || mutual(client.certificate, client.accepted) && !mutual(row.expected, row.accepted) {
            self.false_mutual.push(row.case.clone());
        }
    }

    #[expect(clippy::print_stdout, reason = "the matrix is what `cargo xtask tls-corpus` shows")]
    fn check(&self, how: &str, least_percent: usize) {
        println!("{how}\n{self}");
        assert!(self.false_mutual.is_empty(), "wrong about mutual TLS: {:#?}", self.false_mutual);
        assert!(
            self.right * 100 >= self.all * least_percent,
            "{how}: {} of {} rows right, less than {least_percent} %",
            self.right,
            self.all
        );
    }
}

impl fmt::Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 6] = ["none", "presented", "empty", "resumed", "rejected", "undetermined"];
        let line = |f: &mut fmt::Formatter<'_>, first: &str, cells: [String; 6]| {
            write!(f, "{first:<18}")?;
            cells.iter().try_for_each(|cell| write!(f, "{cell:>13}"))?;
            writeln!(f)
        };
        line(f, "truth \\ decided", NAMES.map(str::to_owned))?;
        for truth in NAMES {
            line(f, truth, NAMES.map(|decided| self.cells.get(&(truth, decided)).unwrap_or(&0).to_string()))?;
        }
        let percent = 100.0 * self.right as f64 / self.all as f64;
        writeln!(f, "{} of {} rows right ({percent:.2} %); those that differ:", self.right, self.all)?;
        self.wrong.iter().try_for_each(|row| writeln!(f, "  {row}"))
    }
}

#[test]
fn recorded_connections_are_judged_right_alone() {
    Matrix::alone(&rows(), || Whole).check("Each connection alone", 97);
}

#[test]
fn recorded_connections_are_judged_right_in_turn() {
    Matrix::in_turn(&rows(), || Whole).check("With what earlier connections showed", 98);
}

#[test]
fn recorded_connections_are_judged_right_as_the_kernel_cuts_them() {
    Matrix::in_turn(&rows(), Kernel::default).check("As the kernel cuts them", 98);
}

/// Ways to cut: lengths of parts, used in turn.
struct Parts(Vec<usize>);

proptest! {
    #![proptest_config(ProptestConfig { cases: 3, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_split_gives_the_same_facts(lengths in proptest::collection::vec(1..700_usize, 1..12)) {
        let parts = Parts(lengths);
        for row in rows() {
            let whole = replay(&row, &mut Whole).facts();
            prop_assert_eq!(&split(&row, &parts).facts(), &whole, "{}", row.case);
        }
    }
}

/// Gives a connection in parts, where what was not recorded is passed over in parts too.
fn split(row: &Row, parts: &Parts) -> Session {
    let mut session = Session::new();
    let mut lengths = parts.0.iter().cycle();
    for (side, happened) in &row.happened {
        match happened {
            Happened::End { reset } => session.end(*side, *reset),
            Happened::Record(content, length, body) => {
                let [high, low] = length.to_be_bytes();
                let mut rest = &[&[*content, 3, 3, high, low][..], body].concat()[..];
                while !rest.is_empty() {
                    let length = *lengths.next().expect("an endless iterator");
                    let (part, after) = rest.split_at(length.min(rest.len()));
                    session.data(*side, part);
                    rest = after;
                }
                let mut unseen = u64::from(*length) - body.len() as u64;
                while unseen > 0 {
                    let part = unseen.min(*lengths.next().expect("an endless iterator") as u64);
                    session.skip(*side, part);
                    unseen -= part;
                }
            }
        }
    }
    session.finish();
    session
}
