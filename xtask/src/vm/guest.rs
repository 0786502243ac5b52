//! What runs in the guest, and what its console says of it.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::{faults::FAULTS, hooks::HookRun, initramfs::Archive, kernel::Modules, ktls::KTLS};
use crate::process::{find, root, run};

/// Calls `vm-case` makes over each address family; `init.sh` says the same.
pub(crate) const CALLS_OF_CASE: usize = 40;

/// What `tls-case` says when everything was captured; `init.sh` says how many connections.
const TLS_CASE: &str = "tls-case: 20 connections, ";

/// What the log says where TLS plaintext is read, and where the kernel is too old for it.
const PLAINTEXT_READ: &str = "reading TLS plaintext";
const PLAINTEXT_NOT_READ: &str = "which Linux has since 5.15";

const INIT: &str = include_str!("init.sh");

/// The calls of the guest's shell: path, verdict, outcome. Those of `vm-case` come with what must be said of them.
const CALLS: &[(&str, &str, &str)] = &[
    ("/open", "unauthenticated", "accepted"),
    ("/open-six", "unauthenticated", "accepted"),
    ("/bearer", "authenticated", "accepted"),
    ("/private/refused", "unauthenticated", "refused"),
];

/// The programs under test.
pub(crate) struct Programs {
    /// The auditor.
    pub(crate) auditor: PathBuf,
    /// `vm-case` of the tests: prints, for each call it makes, what must be said of it.
    pub(crate) case: PathBuf,
    /// `tls-case` of the tests: holds what is captured of TLS connections against what was sent.
    pub(crate) tls_case: PathBuf,
    /// Modules of the kernels.
    pub(crate) modules: Vec<Modules>,
    /// `ktls-case` of the tests: prints, for each call it makes over kernel TLS, what must be said of it.
    pub(crate) ktls_case: PathBuf,
}

/// An initramfs that runs the auditor between a real server and a real client.
///
/// # Errors
/// When a program is missing.
pub(crate) fn initramfs(programs: &Programs) -> Result<Vec<u8>> {
    let busybox = find("busybox").context("busybox is missing: run `cargo xtask setup --tests`")?;
    let mut archive = Archive::default();
    for folder in ["proc", "sys", "dev", "run", "tmp"] {
        archive.folder(folder);
    }
    archive.program("init", INIT.as_bytes());
    archive.program("faults", FAULTS.as_bytes());
    archive.with_libraries("bin/busybox", &busybox)?;
    archive.with_libraries("bin/auditor", &programs.auditor)?;
    archive.with_libraries("bin/vm-case", &programs.case)?;
    archive.with_libraries("bin/tls-case", &programs.tls_case)?;
    archive.program("ktls", KTLS.as_bytes());
    archive.with_libraries("bin/ktls-case", &programs.ktls_case)?;
    for modules in &programs.modules {
        for (folder, files) in [("modules", &modules.translation), ("modules-tls", &modules.tls)] {
            for (number, module) in files.iter().enumerate() {
                archive.file(&format!("{folder}/{}/{number:02}.ko", modules.series), &fs::read(module)?);
            }
        }
    }
    archive.with_libraries("bin/nft", &find("nft").context("nft is missing: run `cargo xtask setup --tests`")?)?;
    // Server and client of calls inside TLS.
    let openssl = find("openssl").context("openssl is missing: run `cargo xtask setup --tests`")?;
    archive.with_libraries("bin/openssl", &openssl)?;
    archive.file("etc/openssl.cnf", b"");
    archive.file("etc/server.pem", &certificate(&openssl)?);
    archive.file("etc/httpd.conf", b"/private:guest:guest\n");
    archive.file("www/private/refused", b"never served\n");
    for page in ["ready", "open", "open-six", "bearer"] {
        archive.file(&format!("www/{page}"), b"a page\n");
    }
    Ok(archive.finish())
}

/// A key and a certificate of its own for the guest's TLS server.
fn certificate(openssl: &Path) -> Result<Vec<u8>> {
    let [key, certificate] = ["key", "pem"].map(|kind| root().join("target/vm/guest").with_extension(kind));
    let mut command = Command::new(openssl);
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "3"]);
    command.args(["-subj", "/CN=guest", "-keyout"]).arg(&key).arg("-out").arg(&certificate);
    run(&mut command)?;
    Ok([fs::read(key)?, fs::read(certificate)?].concat())
}

/// What the guest's console said.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// The kernel that ran.
    pub(crate) kernel: String,
    /// What each hook saw alone.
    pub(crate) hooks: Vec<HookRun>,
    status: Option<i32>,
    expected: Vec<Value>,
    records: Vec<Value>,
    log: String,
    tls: String,
    ended: bool,
}

impl Report {
    /// Takes the framed part out of what a console printed.
    pub(crate) fn parse(console: &str) -> Self {
        let mut report = Self::default();
        let mut section = "";
        for line in console.lines() {
            let line = line.trim_end_matches('\r');
            // The firmware's last words may precede the first frame on its line.
            if let Some((_, frame)) = line.split_once("@@ ") {
                let (word, rest) = frame.split_once(' ').unwrap_or((frame, ""));
                match word {
                    "kernel" => rest.clone_into(&mut report.kernel),
                    "status" => report.status = rest.parse().ok(),
                    "end" => report.ended = true,
                    "hook" => report.hooks.push(HookRun { hook: rest.to_owned(), ..HookRun::default() }),
                    "hook-status" => {
                        if let Some(run) = report.hooks.last_mut() {
                            run.status = rest.parse().ok();
                        }
                    }
                    _ => {}
                }
                section = word;
            } else if section == "expected" {
                report.expected.extend(serde_json::from_str::<Value>(line).ok());
            } else if section == "records" {
                report.records.extend(serde_json::from_str::<Value>(line).ok());
            } else if section == "tls" {
                report.tls += line;
                report.tls.push('\n');
            } else if section == "log" {
                report.log += line;
                report.log.push('\n');
            } else if let Some(run) = report.hooks.last_mut() {
                run.line(section, line);
            }
        }
        report
    }

    /// Whether the auditor loaded, captured and judged everything right; with `plaintext` also what was inside TLS, and else
    /// whether it said that it cannot.
    ///
    /// # Errors
    /// Says every difference, and what the auditor wrote to its log.
    pub(crate) fn check(&self, series: &str, plaintext: bool) -> Result<()> {
        let mut wrong = String::new();
        if !self.kernel.starts_with(series) {
            writeln!(wrong, "the guest's kernel is {:?}, not {series}", self.kernel)?;
        }
        if !self.ended {
            writeln!(wrong, "the guest did not come to its end")?;
        }
        if self.status != Some(0) {
            writeln!(wrong, "the auditor ended with status {:?}", self.status)?;
        }
        if self.expected.len() < 2 * CALLS_OF_CASE {
            writeln!(wrong, "vm-case made {} calls, expected {}", self.expected.len(), 2 * CALLS_OF_CASE)?;
        }
        if !self.tls.starts_with(TLS_CASE) {
            writeln!(wrong, "of TLS connections: {}", self.tls.trim_end())?;
        }
        wrong += &self.check_inside(plaintext);
        for call in CALLS.iter().map(shell_call).chain(self.expected.iter().cloned()) {
            if let Err(difference) = self.check_call(&call) {
                writeln!(wrong, "{}: {difference}", call["request"]["path"])?;
            }
        }
        if !wrong.is_empty() {
            bail!("{wrong}the auditor's log in the guest:\n{}", self.log);
        }
        Ok(())
    }

    /// What is wrong with what was said of calls inside TLS.
    fn check_inside(&self, plaintext: bool) -> String {
        let mut wrong = String::new();
        let mut say = |text: &str| wrong += &format!("{text}\n");
        let words = if plaintext { PLAINTEXT_READ } else { PLAINTEXT_NOT_READ };
        if !self.log.contains(words) {
            say(&format!("the log does not say {words:?}"));
        }
        let of = |kind: &'static str| {
            self.records.iter().filter(move |it| it["kind"] == kind && it["transport"]["security"] == "tls")
        };
        if of("connection").next().is_none() {
            say("no TLS connection was told of");
        }
        let inside: Vec<&Value> = of("exchange").collect();
        if inside.is_empty() == plaintext {
            say(&format!("{} calls inside TLS", inside.len()));
        }
        for (call, difference) in inside.iter().filter_map(|call| Some((call, difference(&inside_call(), call)?))) {
            say(&format!("inside TLS: {difference}; record: {call}"));
        }
        wrong
    }

    fn check_call(&self, call: &Value) -> Result<()> {
        let path = &call["request"]["path"];
        let records: Vec<&Value> = self.records.iter().filter(|record| record["request"]["path"] == *path).collect();
        let [record] = records[..] else { bail!("{} records, expected 1", records.len()) };
        if let Some(difference) = difference(call, record) {
            bail!("{difference}; record: {record}");
        }
        Ok(())
    }
}

/// What must be said of a call of the shell.
fn shell_call((path, verdict, outcome): &(&str, &str, &str)) -> Value {
    json!({
        "reporter": "destination",
        "request": {"path": path},
        "verdict": verdict,
        "outcome": outcome,
        "source": {"process": {"command": "wget"}},
        "destination": {"process": {"command": "httpd"}},
    })
}

/// What must be said of a call inside TLS. The server's functions are none that can be read, the client's are.
fn inside_call() -> Value {
    json!({
        "reporter": "source",
        "request": {"path": "/inside"},
        "verdict": "unauthenticated",
        "outcome": "accepted",
        "source": {"process": {"command": "openssl"}},
        "destination": {"process": {"command": "openssl"}},
    })
}

/// The record of a call, where it was told of once; what is wrong with that is said.
pub(super) fn told_once<'a>(call: &Value, records: &'a [Value], wrong: &mut String) -> Option<&'a Value> {
    let path = &call["request"]["path"];
    match records.iter().filter(|record| record["request"]["path"] == *path).collect::<Vec<_>>()[..] {
        [record] => {
            if let Some(difference) = difference(call, record) {
                *wrong += &format!("{path}: {difference}; record: {record}\n");
            }
            Some(record)
        }
        ref records => {
            *wrong += &format!("{path}: {} records, expected 1\n", records.len());
            None
        }
    }
}

/// The first place where `found` lacks what `expected` has. Objects may have more than is expected, lists may not.
pub(crate) fn difference(expected: &Value, found: &Value) -> Option<String> {
    let within = |place: &dyn std::fmt::Display, inner: Option<String>| inner.map(|inner| format!("/{place}{inner}"));
    match (expected, found) {
        (Value::Object(fields), Value::Object(_)) => {
            fields.iter().find_map(|(name, value)| within(name, difference(value, &found[name])))
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => left
            .iter()
            .zip(right)
            .enumerate()
            .find_map(|(index, (left, right))| within(&index, difference(left, right))),
        _ => (expected != found).then(|| format!(" is {found}, expected {expected}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(call: &(&str, &str, &str)) -> String {
        let mut record = shell_call(call);
        record["protocol"] = "http/1.1".into();
        record.to_string() + "\r\n"
    }

    fn all_records() -> String {
        let mut inside = inside_call();
        (inside["kind"], inside["transport"]) = (json!("exchange"), json!({"security": "tls"}));
        let connection = json!({"kind": "connection", "transport": {"security": "tls"}});
        CALLS.iter().map(record).chain([inside, connection].map(|record| record.to_string() + "\r\n")).collect()
    }

    fn console(records: &str) -> String {
        let calls: Vec<Value> = (0..2 * CALLS_OF_CASE)
            .map(|number| json!({"request": {"path": format!("/case/{number}")}, "credentials": [{"kind": "api-key"}]}))
            .collect();
        let calls: String = calls.iter().map(|call| format!("{call}\r\n")).collect();
        format!(
            "SeaBIOS @@ kernel 6.1.0-1-cloud-amd64\r\n@@ status 0\r\n@@ expected\r\n{calls}@@ records\r\n{calls}{records}@@ \
             tls\r\n{TLS_CASE}9 headers\r\n@@ log\r\nready\r\nreading TLS plaintext\r\n@@ end\r\n"
        )
    }

    #[test]
    fn a_console_with_every_call_judged_right_passes() {
        Report::parse(&console(&all_records())).check("6.1.", true).expect("every call is there");
    }

    #[test]
    fn a_missing_call_a_wrong_kernel_and_a_cut_console_are_said() {
        let text = console(&record(&CALLS[0]));
        let error = Report::parse(&text).check("5.10.", true).expect_err("one call of four").to_string();
        assert!(error.contains("not 5.10."), "{error}");
        assert!(error.contains("\"/bearer\": 0 records, expected 1"), "{error}");
        assert!(error.contains("log in the guest:\nready"), "{error}");
        let cut = Report::parse(&text[..40]).check("6.1.", true).expect_err("cut").to_string();
        assert!(cut.contains("did not come to its end"), "{cut}");
        assert!(cut.contains("vm-case made 0 calls"), "{cut}");
        let failed = text.replace(TLS_CASE, "Error: seed 3: ");
        let error = Report::parse(&failed).check("5.10.", true).expect_err("TLS").to_string();
        assert!(error.contains("of TLS connections: Error: seed 3: 9 headers"), "{error}");
    }

    #[test]
    fn a_call_judged_twice_or_wrong_is_said_with_its_record() {
        let wrong = all_records().replace("unauthenticated", "unknown");
        let error = Report::parse(&console(&wrong)).check("6.1.", true).expect_err("wrong verdicts").to_string();
        assert!(error.contains(r#""/open": /verdict is "unknown", expected "unauthenticated"; record: {"#), "{error}");
        let twice = all_records() + &record(&CALLS[2]);
        let error = Report::parse(&console(&twice)).check("6.1.", true).expect_err("twice").to_string();
        assert!(error.contains("\"/bearer\": 2 records, expected 1"), "{error}");
    }

    #[test]
    fn a_kernel_without_plaintext_must_say_so_and_one_with_it_must_read() {
        let with = console(&all_records());
        let error = Report::parse(&with).check("6.1.", false).expect_err("read").to_string();
        assert!(error.contains("does not say") && error.contains("1 calls inside TLS"), "{error}");
        let calls: String = CALLS.iter().map(record).collect();
        let connection = json!({"kind": "connection", "transport": {"security": "tls"}});
        let without = console(&(calls + &connection.to_string() + "\r\n"));
        let old =
            without.replace("reading TLS plaintext", "not read: it lacks what is needed, which Linux has since 5.15");
        let old = old.replace("6.1.0", "5.10.0");
        Report::parse(&old).check("5.10.", false).expect("it says so");
        let error = Report::parse(&without).check("6.1.", true).expect_err("not read").to_string();
        assert!(error.contains("0 calls inside TLS"), "{error}");
    }

    #[test]
    fn lists_must_agree_in_length_and_objects_may_have_more() {
        let expected = json!({"credentials": [{"kind": "api-key"}]});
        assert_eq!(difference(&expected, &json!({"credentials": [{"kind": "api-key", "x": 1}], "y": 2})), None);
        let none = difference(&expected, &json!({"credentials": []}));
        assert_eq!(none.as_deref(), Some(r#"/credentials is [], expected [{"kind":"api-key"}]"#));
        let other = difference(&expected, &json!({"credentials": [{"kind": "basic"}]}));
        assert_eq!(other.as_deref(), Some(r#"/credentials/0/kind is "basic", expected "api-key""#));
    }
}
