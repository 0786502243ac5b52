//! What runs in the guest, and what its console says of it.

use std::{fmt::Write as _, path::Path};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::initramfs::Archive;
use crate::process::find;

const INIT: &str = include_str!("init.sh");

/// A call the guest makes and what must be said of it.
struct Call {
    path: &'static str,
    verdicts: &'static [&'static str],
    outcome: &'static str,
}

const CALLS: &[Call] = &[
    Call { path: "/open", verdicts: &["unauthenticated"], outcome: "accepted" },
    Call { path: "/open-six", verdicts: &["unauthenticated"], outcome: "accepted" },
    Call { path: "/bearer", verdicts: &["authenticated", "weak"], outcome: "accepted" },
    Call { path: "/private/refused", verdicts: &["unauthenticated"], outcome: "refused" },
];

/// An initramfs that runs the auditor between a real server and a real client.
///
/// # Errors
/// When a program is missing.
pub(crate) fn initramfs(auditor: &Path) -> Result<Vec<u8>> {
    let busybox = find("busybox").context("busybox is missing: run `cargo xtask setup --tests`")?;
    let mut archive = Archive::default();
    for folder in ["proc", "sys", "dev", "run"] {
        archive.folder(folder);
    }
    archive.program("init", INIT.as_bytes());
    archive.with_libraries("bin/busybox", &busybox)?;
    archive.with_libraries("bin/auditor", auditor)?;
    archive.file("etc/httpd.conf", b"/private:guest:guest\n");
    archive.file("www/private/refused", b"never served\n");
    for page in ["ready", "open", "open-six", "bearer"] {
        archive.file(&format!("www/{page}"), b"a page\n");
    }
    Ok(archive.finish())
}

/// What the guest's console said.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// The kernel that ran.
    pub(crate) kernel: String,
    status: Option<i32>,
    records: Vec<Value>,
    log: String,
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
                    _ => {}
                }
                section = word;
            } else if section == "records" {
                report.records.extend(serde_json::from_str::<Value>(line).ok());
            } else if section == "log" {
                report.log += line;
                report.log.push('\n');
            }
        }
        report
    }

    /// Whether the auditor loaded, captured and judged everything right.
    ///
    /// # Errors
    /// Says every difference, and what the auditor wrote to its log.
    pub(crate) fn check(&self, series: &str) -> Result<()> {
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
        for call in CALLS {
            if let Err(difference) = self.check_call(call) {
                writeln!(wrong, "{}: {difference}", call.path)?;
            }
        }
        if !wrong.is_empty() {
            bail!("{wrong}the auditor's log in the guest:\n{}", self.log);
        }
        Ok(())
    }

    fn check_call(&self, call: &Call) -> Result<()> {
        let records: Vec<&Value> =
            self.records.iter().filter(|record| record["request"]["path"] == call.path).collect();
        let [record] = records[..] else { bail!("{} records, expected 1", records.len()) };
        let verdict = record["verdict"].as_str().unwrap_or("none");
        if !call.verdicts.contains(&verdict) {
            bail!("verdict {verdict}, expected {}; record: {record}", call.verdicts.join(" or "));
        }
        for (place, expected) in [
            ("/outcome", call.outcome),
            ("/reporter", "destination"),
            ("/source/process/command", "wget"),
            ("/destination/process/command", "httpd"),
        ] {
            if record.pointer(place).and_then(Value::as_str) != Some(expected) {
                bail!("{place} is not {expected}; record: {record}");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(call: &Call) -> String {
        format!(
            r#"{{"reporter":"destination","request":{{"path":"{}"}},"verdict":"{}","outcome":"{}","source":{{"process":{{"command":"wget"}}}},"destination":{{"process":{{"command":"httpd"}}}}}}"#,
            call.path, call.verdicts[0], call.outcome
        )
    }

    fn console(records: &str) -> String {
        format!(
            "SeaBIOS @@ kernel 6.1.0-1-cloud-amd64\r\n@@ status 0\r\n@@ records\r\n{records}@@ log\r\nready\r\n@@ end\r\n"
        )
    }

    #[test]
    fn a_console_with_every_call_judged_right_passes() {
        let records: String = CALLS.iter().map(|call| record(call) + "\r\n").collect();
        Report::parse(&console(&records)).check("6.1.").expect("every call is there");
    }

    #[test]
    fn a_missing_call_a_wrong_kernel_and_a_cut_console_are_said() {
        let text = console(&(record(&CALLS[0]) + "\r\n"));
        let error = Report::parse(&text).check("5.10.").expect_err("one call of four").to_string();
        assert!(error.contains("not 5.10."), "{error}");
        assert!(error.contains("/bearer: 0 records, expected 1"), "{error}");
        assert!(error.contains("log in the guest:\nready"), "{error}");
        let cut = Report::parse(&text[..40]).check("6.1.").expect_err("cut").to_string();
        assert!(cut.contains("did not come to its end"), "{cut}");
    }

    #[test]
    fn a_wrong_verdict_shows_the_record() {
        let records: String =
            CALLS.iter().map(|call| record(call).replace("unauthenticated", "unknown") + "\r\n").collect();
        let error = Report::parse(&console(&records)).check("6.1.").expect_err("wrong verdicts").to_string();
        assert!(error.contains("/open: verdict unknown, expected unauthenticated; record: {"), "{error}");
    }
}
