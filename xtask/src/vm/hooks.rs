//! What each hook saw in a guest: held against what was called, written as a table, and what the verifier walked through held
//! against golden counts.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::{
    guest::{CALLS_OF_CASE, difference},
    protocols,
};
use crate::process::root;

/// Ways a call is sent that every hook must see; the table says what is seen of the others.
const SEEN_BY_ALL: [&str; 4] = ["write", "iovecs", "three writes", "seven bytes"];
/// The hook that sees less: what does not pass through a system call of its own.
const CALLS: &str = "syscall";
const HIDDEN_FROM_CALLS: [&str; 1] = ["io_uring"];
/// The hook that sees more.
const PACKETS: &str = "cgroup";
const SEEN_BY_PACKETS: [&str; 2] = ["sendfile", "splice"];

/// Verified instructions of each program, by series of the kernel.
type Counts = BTreeMap<String, BTreeMap<String, u64>>;

/// One hook in one guest.
#[derive(Debug, Default)]
pub(crate) struct HookRun {
    /// Its name.
    pub(crate) hook: String,
    pub(crate) status: Option<i32>,
    pub(crate) expected: Vec<Value>,
    pub(crate) ways: Vec<Value>,
    pub(crate) protocols: Vec<Value>,
    /// What `vm-case protocols` said that is no call: why it ended.
    pub(crate) complaint: String,
    pub(crate) records: Vec<Value>,
    pub(crate) log: String,
}

/// What one hook saw in one guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    kernel: String,
    hook: String,
    judged: String,
    ways: Vec<(String, String)>,
    protocols: Vec<(String, String)>,
}

impl HookRun {
    /// A line of one of its sections.
    pub(crate) fn line(&mut self, section: &str, line: &str) {
        let parsed = || serde_json::from_str::<Value>(line).ok();
        match section {
            "hook-expected" => self.expected.extend(parsed()),
            "hook-ways" => self.ways.extend(parsed()),
            "hook-protocols" => match parsed() {
                Some(call) => self.protocols.push(call),
                None => self.complaint += line,
            },
            "hook-records" => self.records.extend(parsed()),
            "hook-log" => {
                self.log += line;
                self.log.push('\n');
            }
            _ => {}
        }
    }

    /// What it saw.
    ///
    /// # Errors
    /// When it did not load, or said something wrong, or did not see what it must.
    pub(crate) fn check(&self, kernel: &str) -> Result<Row> {
        let mut wrong = String::new();
        if self.status != Some(0) {
            writeln!(wrong, "the auditor ended with status {:?}", self.status)?;
        }
        if self.expected.len() < 2 * CALLS_OF_CASE || self.ways.is_empty() {
            writeln!(wrong, "{} calls and {} ways were made", self.expected.len(), self.ways.len())?;
        }
        let mut right = 0;
        for call in &self.expected {
            match self.about(&call["request"]["path"])[..] {
                [record] => match difference(call, record) {
                    None => right += 1,
                    Some(difference) => writeln!(wrong, "{difference}; record: {record}")?,
                },
                ref records => writeln!(wrong, "{}: {} records", call["request"]["path"], records.len())?,
            }
        }
        let mut ways = Vec::new();
        for way in &self.ways {
            let name = way["way"].as_str().unwrap_or_default();
            let cell = self.cell(way).unwrap_or_else(|error| {
                wrong += &format!("{name}: {error}\n");
                "wrong".to_owned()
            });
            if self.must_see(name) && cell != "yes" {
                writeln!(wrong, "{name}: {cell}, expected yes")?;
            }
            ways.push((name.to_owned(), cell));
        }
        let protocols = protocols::cells(&self.hook, &self.protocols, &self.records).unwrap_or_else(|error| {
            wrong += &format!("{error}{}\n", self.complaint);
            Vec::new()
        });
        if !wrong.is_empty() {
            bail!("hook {}:\n{wrong}its log:\n{}", self.hook, self.log);
        }
        let judged = format!("{right} of {}", self.expected.len());
        Ok(Row { kernel: kernel.to_owned(), hook: self.hook.clone(), judged, ways, protocols })
    }

    fn must_see(&self, way: &str) -> bool {
        SEEN_BY_ALL.contains(&way)
            || (self.hook != CALLS && HIDDEN_FROM_CALLS.contains(&way))
            || (self.hook == PACKETS && SEEN_BY_PACKETS.contains(&way))
    }

    fn about(&self, path: &Value) -> Vec<&Value> {
        self.records.iter().filter(|record| record["request"]["path"] == *path).collect()
    }

    /// What is said of a call: right with both processes, in part, unknown, nothing.
    fn cell(&self, way: &Value) -> Result<String> {
        if way["made"] != true {
            return Ok("not in this kernel".to_owned());
        }
        let records = self.about(&way["path"]);
        let record = match records[..] {
            [] => return Ok("–".to_owned()),
            [record] => record,
            _ => bail!("{} records", records.len()),
        };
        let mut absent = Vec::new();
        for (end, who) in [("source", "client"), ("destination", "server")] {
            match &record[end]["process"]["pid"] {
                Value::Null => absent.push(who),
                pid if *pid == way[who] => {}
                pid => bail!("the {who} is {}, not {pid}; record: {record}", way[who]),
            }
        }
        let reason = record["unknown_reason"].as_str().unwrap_or("?");
        let said = match record["verdict"].as_str() {
            Some("unauthenticated") if record["response"]["status"] == 200 => "yes".to_owned(),
            Some("unauthenticated") => "request only".to_owned(),
            Some("unknown") => format!("unknown: {reason}"),
            _ => bail!("a wrong verdict; record: {record}"),
        };
        Ok(if absent.is_empty() { said } else { format!("{said}, {} unnamed", absent.join(" and ")) })
    }

    /// Instructions the verifier walked through, by program, where the kernel tells.
    pub(crate) fn instructions(&self) -> BTreeMap<String, u64> {
        instructions(&self.log)
    }
}

/// Instructions the verifier walked through, by program, as a log tells.
pub(crate) fn instructions(log: &str) -> BTreeMap<String, u64> {
    let count = |line: &str| {
        let (_, rest) = line.split_once("program=\"")?;
        let (program, rest) = rest.split_once('"')?;
        let (_, count) = rest.split_once("instructions=")?;
        let digits = count.split(|c: char| !c.is_ascii_digit()).next()?;
        Some((program.to_owned(), digits.parse().ok()?))
    };
    log.lines().filter(|line| line.contains(" verified")).filter_map(count).collect()
}

fn golden() -> PathBuf {
    root().join("tests/golden/verified-instructions.json")
}

/// Holds counts against the golden ones: what differs by more than a tenth fails. With `write` they become the golden ones.
///
/// # Errors
/// When the golden file cannot be read or written, or counts differ.
pub(crate) fn check_instructions(found: &Counts, write: bool) -> Result<()> {
    if write {
        let text = serde_json::to_string_pretty(found)? + "\n";
        return fs::write(golden(), text).with_context(|| golden().display().to_string());
    }
    let text = fs::read_to_string(golden()).with_context(|| golden().display().to_string())?;
    let wrong = differences(&serde_json::from_str(&text)?, found);
    if !wrong.is_empty() {
        bail!("verified instructions changed; `cargo xtask vm --write` accepts them:\n{wrong}");
    }
    Ok(())
}

/// What differs by more than a tenth, of the kernels that were booted.
fn differences(golden: &Counts, found: &Counts) -> String {
    let mut wrong = String::new();
    for (kernel, programs) in found {
        for (program, count) in programs {
            let expected = golden.get(kernel).and_then(|programs| programs.get(program)).copied();
            let fits = expected.is_some_and(|expected| count.abs_diff(expected) * 10 <= expected);
            if !fits {
                let expected = expected.map_or_else(|| "no count".to_owned(), |expected| expected.to_string());
                wrong += &format!("{kernel} {program}: {count}, golden is {expected}\n");
            }
        }
    }
    wrong
}

/// Writes `docs/kernels.md`.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write_table(rows: &[Row], kernel_tls: &[(String, String)], counts: &Counts) -> Result<()> {
    let path = root().join("docs/kernels.md");
    fs::write(&path, table(rows, kernel_tls, counts)).with_context(|| path.display().to_string())
}

fn table(rows: &[Row], kernel_tls: &[(String, String)], counts: &Counts) -> String {
    let mut text = String::from(INTRODUCTION);
    let keep_alive = |row: &Row| [&[("keep-alive calls right".to_owned(), row.judged.clone())], &row.ways[..]].concat();
    text += &columns(rows, keep_alive);
    text += PROTOCOLS;
    text += &columns(rows, |row| row.protocols.clone());
    text += KERNEL_TLS;
    for (kernel, calls) in kernel_tls {
        text += &format!("| {kernel} | {calls} |\n");
    }
    text += INSTRUCTIONS;
    for (kernel, programs) in counts {
        for (program, count) in programs {
            text += &format!("| {kernel} | `{program}` | {count} |\n");
        }
    }
    text
}

/// A table with a row for each kernel and hook.
fn columns(rows: &[Row], cells: impl Fn(&Row) -> Vec<(String, String)>) -> String {
    let names: Vec<String> =
        rows.first().map(|row| cells(row).into_iter().map(|(name, _)| name).collect()).unwrap_or_default();
    let mut text = format!("| kernel | `--capture` | {} |\n|{}\n", names.join(" | "), "---|".repeat(names.len() + 2));
    for row in rows {
        let cells: Vec<String> = cells(row).into_iter().map(|(_, cell)| cell).collect();
        text += &format!("| {} | {} | {} |\n", row.kernel, row.hook, cells.join(" | "));
    }
    text
}

const INTRODUCTION: &str = "# Hooks and kernels

Written by `cargo xtask vm --write` from what the auditor said of real calls in stock Debian kernels under QEMU; do not edit.
[configuration.md](configuration.md#hooks) says what each hook is and what it does not see.

*Keep-alive calls right*: calls over IPv4 and IPv6, one after the other on the same connections, of which method, path, status,
credential, verdict, outcome and the processes of both ends are right. The columns behind it are single calls whose request is sent in
one way: *yes* when verdict, status and both processes are right, *–* when nothing is said of the call. Whatever is said is checked: a
wrong verdict or a wrong process would fail the run. *seven bytes*: the response is read seven bytes at a time.

";

const PROTOCOLS: &str = "
## Other protocols and addresses

Connections and calls between two processes that are told of once, by the destination: *yes* when verdict, credential, outcome,
findings of TLS, status and both processes are right for all calls of a column, *unknown* with the reason where that is said instead.
*TLS*: 1.2 and 1.3, the server asks for no certificate. *mTLS*: it asks, the client gives one, or none. *mTLS, 8 KB certificates*: those
of both ends are longer than what is copied of a handshake. *HTTP/2*: three streams at once, with and without credential, one of them
gRPC. *HTTP/2 bodies*: 200 KB each way, with the head of another call behind them in the same write. *DNAT*: HTTP/1.1, then the same of
HTTP/2 and of TLS, to an address that is translated to the server's.

";

const KERNEL_TLS: &str = "
## Kernel TLS

Calls whose TLS the kernel does, read with `tls_plaintext` ([plaintext.md](plaintext.md#kernel-tls)): calls told of once and right, of
those that were made, in ten ways: TLS 1.2 and 1.3, keys of both ends or one, of both directions or one, control messages, pieces,
peeked at, sent with `sendfile`. *Right*: method, path, status, credential, verdict, outcome and the processes of both ends.

| kernel | calls right |
|---|---|
";

const INSTRUCTIONS: &str = "
## Verified instructions

What the verifier walks through for each program, of the million it allows. A change by more than a tenth fails `cargo xtask vm`.
Kernels before 5.16 do not tell.

| kernel | program | instructions |
|---|---|---|
";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(record: &Value) -> HookRun {
        let mut run = HookRun { hook: "kprobe".to_owned(), status: Some(0), ..HookRun::default() };
        let call = |number| json!({"request": {"path": format!("/case/{number}")}, "verdict": "unauthenticated"});
        run.expected = (0..2 * CALLS_OF_CASE).map(call).collect();
        run.ways = vec![json!({"way": "splice", "path": "/way/splice", "made": true, "client": 4, "server": 5})];
        run.records = run.expected.clone();
        run.records.push(record.clone());
        run.protocols = protocols::tests::calls();
        run.records.extend(protocols::tests::records(&run.protocols));
        run
    }

    fn record() -> Value {
        json!({
            "request": {"path": "/way/splice"}, "response": {"status": 200}, "verdict": "unauthenticated",
            "source": {"process": {"pid": 4}}, "destination": {"process": {"pid": 5}},
        })
    }

    fn cell(record: &Value) -> String {
        let row = run(record).check("6.1").expect("nothing is wrong");
        row.ways.into_iter().map(|(_, cell)| cell).collect()
    }

    #[test]
    fn what_is_said_of_a_call_becomes_a_cell() {
        assert_eq!(cell(&record()), "yes");
        let mut unnamed = record();
        unnamed["source"]["process"] = Value::Null;
        assert_eq!(cell(&unnamed), "yes, client unnamed");
        let mut unknown = record();
        (unknown["verdict"], unknown["unknown_reason"]) = (json!("unknown"), json!("gap"));
        assert_eq!(cell(&unknown), "unknown: gap");
        assert_eq!(cell(&json!({"request": {"path": "/other"}})), "–");
    }

    #[test]
    fn a_wrong_verdict_a_wrong_process_and_a_missing_call_are_said() {
        let mut wrong = record();
        wrong["verdict"] = json!("authenticated");
        assert!(run(&wrong).check("6.1").expect_err("wrong").to_string().contains("a wrong verdict"));
        let mut wrong = record();
        wrong["source"]["process"]["pid"] = json!(7);
        assert!(run(&wrong).check("6.1").expect_err("wrong").to_string().contains("the client is 4, not 7"));
        let mut missing = run(&record());
        missing.records.remove(0);
        assert!(missing.check("6.1").expect_err("missing").to_string().contains("\"/case/0\": 0 records"));
        let mut blind = run(&json!({}));
        blind.ways[0]["way"] = json!("write");
        assert!(blind.check("6.1").expect_err("blind").to_string().contains("write: –, expected yes"));
    }

    #[test]
    fn instructions_are_read_from_the_log_and_may_change_by_a_tenth() {
        let mut run = run(&record());
        run.log = "DEBUG auditor: verified hook=kprobe program=\"send_kprobe\" instructions=1000\n".to_owned();
        let found = Counts::from([("6.1".to_owned(), run.instructions())]);
        let golden = |count| Counts::from([("6.1".to_owned(), BTreeMap::from([("send_kprobe".to_owned(), count)]))]);
        assert_eq!(found, golden(1000));
        assert_eq!(differences(&golden(920), &found), "");
        assert_eq!(differences(&golden(900), &found), "6.1 send_kprobe: 1000, golden is 900\n");
        assert!(differences(&Counts::new(), &found).contains("no count"));
    }
}
