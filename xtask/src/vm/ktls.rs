//! What is said of calls over kernel TLS.

use std::fmt::Write as _;

use anyhow::{Result, bail};
use serde_json::Value;

use super::{faults::sections, guest::told_once};

/// What the guest runs.
pub(crate) const KTLS: &str = include_str!("ktls.sh");
/// Cases of `ktls-case` and calls of each; it says the same.
const CASES: usize = 10;
const CALLS: usize = 8;
/// What is said where the kernel is too old for TLS plaintext.
pub(crate) const NOT_READ: &str = "not read: the kernel has no `bpf_get_attach_cookie`";

/// Holds what a console printed against what must be said; how many calls were right, of how many.
///
/// # Errors
/// Says every difference, and what the auditor wrote to its log.
pub(crate) fn check(console: &str) -> Result<String> {
    let sections = sections(console);
    let text = |name: &str| sections.get(name).map_or("", String::as_str).trim();
    let lines = |name: &str| text(name).lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut wrong = String::new();
    if !sections.contains_key("end") {
        writeln!(wrong, "the guest did not come to its end")?;
    }
    if text("status") != "0" {
        writeln!(wrong, "the auditor ended with status {:?}", text("status"))?;
    }
    if text("early") != "0" {
        writeln!(wrong, "before the kernel did TLS the log said of it {:?} times", text("early"))?;
    }
    for (section, words) in [("doctor", "not loaded"), ("doctor-loaded", "is loaded")] {
        if !text(section).contains(words) {
            writeln!(wrong, "doctor says {:?}, without {words:?}", text(section))?;
        }
    }
    let (expected, records): (Vec<Value>, Vec<Value>) = (lines("expected").collect(), lines("records").collect());
    if expected.len() != CASES * CALLS {
        writeln!(wrong, "ktls-case made {} calls: {}", expected.len(), text("case"))?;
    }
    for call in &expected {
        told_once(call, &records, &mut wrong);
    }
    let calls = records.iter().filter(|record| record["kind"] == "exchange").count();
    if calls != expected.len() {
        writeln!(wrong, "{calls} calls were told of, and {} made", expected.len())?;
    }
    if !wrong.is_empty() {
        bail!("{wrong}the auditor's log in the guest:\n{}", text("log"));
    }
    Ok(format!("{0} of {0}", expected.len()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn console() -> String {
        let call = |number: usize| json!({"kind": "exchange", "request": {"path": format!("/open/plain-{number}")}, "verdict": "weak"});
        let calls: String = (0..CASES * CALLS).map(|number| format!("{}\r\n", call(number))).collect();
        format!(
            "SeaBIOS @@ kernel 6.1.0\r\n@@ doctor\r\nkernel TLS: not loaded\r\n@@ early 0\r\n@@ status 0\r\n@@ doctor-loaded\r\n\
             kernel TLS: is loaded\r\n@@ expected\r\n{calls}@@ records\r\n{calls}@@ log\r\nwatching\r\n@@ end\r\n"
        )
    }

    #[test]
    fn all_calls_right_pass_and_what_differs_is_said() {
        assert_eq!(check(&console()).expect("all is right"), "80 of 80");
        let error = |from: &str, to: &str| check(&console().replace(from, to)).expect_err("it is wrong").to_string();
        assert!(error("@@ early 0", "@@ early 1").contains("said of it \"1\" times"));
        assert!(error("@@ end", "@@ cut").contains("did not come to its end"));
        assert!(error("is loaded", "is away").contains("without \"is loaded\""));
        let (before, after) = console().split_once("@@ records").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        let records = |changed: String| check(&format!("{before}@@ records{changed}")).expect_err("wrong").to_string();
        assert!(records(after.replacen("weak", "unknown", 1)).contains("is \"unknown\", expected \"weak\""));
        let doubled = after.replacen("\r\n", "\r\n{\"kind\": \"exchange\"}\r\n", 1);
        assert!(records(doubled).contains("81 calls were told of, and 80 made"));
    }
}
