//! What is said of calls while the guest's clock is stepped and a processor goes and comes back; and what stays of an auditor that the
//! kernel ended because its memory ran out.

use std::{collections::HashMap, fmt::Write as _};

use anyhow::{Result, bail};
use serde_json::Value;

use super::guest::told_once;

/// What the guest runs.
pub(crate) const FAULTS: &str = include_str!("faults.sh");
/// QEMU's arguments: a second processor, which can go.
pub(crate) const MACHINE: &[&str] = &["-smp", "2"];

/// How `vm-case faults` names them, in their order, and whether records are later, by the wall clock, than those before.
const STEPS: [(&str, bool); 5] =
    [("none", true), ("forward", true), ("back", false), ("offline", true), ("online", true)];
/// Calls of each; `vm-case` says the same.
const CALLS: usize = 16;
/// What the shell says of a process that SIGKILL ended.
const KILLED: &str = "137";

/// Holds what a console printed against what must be said.
///
/// # Errors
/// Says every difference, and what the auditors wrote to their logs.
pub(crate) fn check(console: &str) -> Result<()> {
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
    let (expected, records): (Vec<Value>, Vec<Value>) = (lines("expected").collect(), lines("records").collect());
    if expected.len() != STEPS.len() * CALLS {
        writeln!(wrong, "vm-case made {} calls: {}", expected.len(), text("faults"))?;
    }
    for call in &expected {
        let Some(record) = told_once(call, &records, &mut wrong) else { continue };
        let seconds = record["response"]["duration_seconds"].as_f64();
        // An emulated guest is slow, and a step is an hour.
        if !seconds.is_some_and(|seconds| (0.0..60.0).contains(&seconds)) {
            writeln!(wrong, "{} took {seconds:?} s; record: {record}", call["request"]["path"])?;
        }
    }
    wrong += &check_times(&records);
    wrong += &check_out_of_memory(text("ended"), text("before"), text("between"), text("after"));
    if !wrong.is_empty() {
        bail!("{wrong}the auditor's log in the guest:\n{}\n{}", text("log"), text("log.tight"));
    }
    Ok(())
}

/// Records have the wall clock's time: what was said after a step is on the other side of what was said before.
fn check_times(records: &[Value]) -> String {
    let of = |step: &str| {
        let names = ["open", "guarded"].map(|route| format!("/{route}/{step}-"));
        let paths = records.iter().filter_map(move |record| Some((record["request"]["path"].as_str()?, record)));
        let own = paths.filter(|(path, _)| names.iter().any(|name| path.starts_with(name)));
        // RFC 3339 in UTC: the order of the text is that of the times.
        let mut times: Vec<String> = own.filter_map(|(_, record)| Some(record["time"].as_str()?.to_owned())).collect();
        times.sort();
        times
    };
    let mut wrong = String::new();
    for [(before, _), (step, later)] in STEPS.array_windows() {
        let (earlier, times) = (of(before), of(step));
        let right = if *later { earlier.last() < times.first() } else { earlier.first() > times.last() };
        if !right || times.is_empty() {
            wrong += &format!("times of {step:?} are {times:?}, those before {earlier:?}\n");
        }
    }
    wrong
}

fn check_out_of_memory(ended: &str, before: &str, between: &str, after: &str) -> String {
    let mut wrong = String::new();
    if ended != KILLED {
        wrong += &format!("out of memory, the auditor ended with status {ended:?}\n");
    }
    if before == between || before != after || before.is_empty() {
        wrong += &format!("there were {before:?}, with the auditor {between:?}, and out of memory it left {after:?}\n");
    }
    wrong
}

/// What stands behind each "@@" line, or on it.
pub(super) fn sections(console: &str) -> HashMap<String, String> {
    let mut sections: HashMap<String, String> = HashMap::new();
    let mut current = String::new();
    for line in console.lines() {
        let line = line.trim_end_matches('\r');
        // The firmware's last words may precede the first frame on its line.
        if let Some((_, frame)) = line.split_once("@@ ") {
            let (name, rest) = frame.split_once(' ').unwrap_or((frame, ""));
            name.clone_into(&mut current);
            sections.insert(current.clone(), rest.to_owned());
        } else if let Some(section) = sections.get_mut(&current) {
            section.push_str(line);
            section.push('\n');
        }
    }
    sections
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn console(records: &[Value]) -> String {
        let lines = |records: &[Value]| records.iter().map(|record| format!("{record}\r\n")).collect::<String>();
        format!(
            "SeaBIOS @@ kernel 6.1.0\r\n@@ status 0\r\n@@ ended 137\r\n@@ before\r\n0 programs\r\n@@ between\r\n8 programs\r\n\
             @@ after\r\n0 programs\r\n@@ expected\r\n{}@@ records\r\n{}@@ log\r\nwatching\r\n@@ end\r\n",
            lines(&calls()),
            lines(records)
        )
    }

    fn calls() -> Vec<Value> {
        let paths = STEPS.iter().flat_map(|(step, _)| (0..CALLS).map(move |number| format!("/open/{step}-{number}")));
        paths.map(|path| json!({"request": {"path": path}, "verdict": "unauthenticated"})).collect()
    }

    fn records() -> Vec<Value> {
        let hours = ["10", "11", "09", "09", "09"];
        let said = |(at, mut call): (usize, Value)| {
            call["time"] = format!("2026-11-22T{}:{:02}:00.5Z", hours[at / CALLS], at / 2).into();
            call["response"] = json!({"duration_seconds": 0.002});
            call
        };
        calls().into_iter().enumerate().map(said).collect()
    }

    #[test]
    fn all_calls_right_pass_and_what_differs_is_said() {
        check(&console(&records())).expect("all is right");
        let mut twice = records();
        twice.push(twice[3].clone());
        let error = |records: &[Value]| check(&console(records)).expect_err("it is wrong").to_string();
        assert!(error(&twice).contains("/open/none-3\": 2 records"));
        let mut wrong = records();
        wrong[4]["verdict"] = json!("unknown");
        assert!(error(&wrong).contains("is \"unknown\", expected \"unauthenticated\""));
        let mut long = records();
        long[17]["response"]["duration_seconds"] = json!(3600.1);
        assert!(error(&long).contains("took Some(3600.1) s"));
        let mut still = records();
        (0..CALLS).for_each(|at| still[CALLS + at]["time"] = still[at]["time"].clone());
        assert!(error(&still).contains("times of \"forward\""));
    }

    #[test]
    fn what_stays_of_one_that_was_ended_is_said() {
        let good = console(&records());
        let error = |text: &str| check(text).expect_err("it is wrong").to_string();
        let left = good.replace("@@ after\r\n0 programs", "@@ after\r\n8 programs");
        assert!(error(&left).contains("it left \"8 programs\""));
        assert!(error(&good.replace("ended 137", "ended 0")).contains("ended with status \"0\""));
        assert!(error(&good.replace("@@ end\r\n", "")).contains("did not come to its end"));
    }
}
