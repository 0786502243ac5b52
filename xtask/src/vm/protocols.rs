//! What a hook says of calls in other protocols than plain HTTP/1.1, and through an address that is translated.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::guest::difference;

/// What every hook must say, by column.
const SAID_BY_ALL: [&str; 7] = ["TLS", "mTLS", "mTLS, 8 KB certificates", "HTTP/2", "DNAT", "DNAT HTTP/2", "DNAT TLS"];
/// What the hooks on functions and system calls copy less of.
const COPIED_IN_PART: &str = "HTTP/2 bodies";

/// Every column with what is said of its calls, in the order of the calls: right with both processes, in part, unknown, nothing.
///
/// # Errors
/// When something wrong is said, or too little; says all of it.
pub(super) fn cells(hook: &str, calls: &[Value], records: &[Value]) -> Result<Vec<(String, String)>> {
    let mut wrong = String::new();
    let mut columns: Vec<(&str, BTreeMap<String, usize>)> = Vec::new();
    let mut pathless: Vec<&Value> = records.iter().filter(|record| is_pathless(record)).collect();
    for call in calls {
        let column = call["column"].as_str().unwrap_or_default();
        let found: Vec<&Value> = records.iter().filter(|record| difference(&call["find"], record).is_none()).collect();
        let port = &call["find"]["source"]["port"];
        let of_connection = pathless.iter().position(|record| port.is_number() && record["source"]["port"] == *port);
        let said = match (&found[..], of_connection) {
            ([], Some(at)) => {
                let reason = pathless.remove(at)["unknown_reason"].as_str().unwrap_or_default();
                Ok(format!("unknown: {reason}, without its request"))
            }
            _ => said(call, &found),
        };
        let said = said.unwrap_or_else(|error| {
            wrong += &format!("{column}, {}: {error}\n", call["find"]);
            "wrong".to_owned()
        });
        let at = columns.iter().position(|(name, _)| *name == column).unwrap_or_else(|| {
            columns.push((column, BTreeMap::new()));
            columns.len() - 1
        });
        *columns[at].1.entry(said).or_default() += 1;
    }
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    for column in SAID_BY_ALL.iter().chain([&COPIED_IN_PART]).filter(|column| !names.contains(column)) {
        wrong += &format!("{column}: no calls were made\n");
    }
    let cells: Vec<(String, String)> = columns.iter().map(|(name, said)| ((*name).to_owned(), cell(said))).collect();
    for (column, cell) in cells.iter().filter(|(column, _)| hook == "cgroup" || SAID_BY_ALL.contains(&column.as_str()))
    {
        if cell != "yes" {
            wrong += &format!("{column}: {cell}, expected yes\n");
        }
    }
    if !wrong.is_empty() {
        bail!("{wrong}");
    }
    Ok(cells)
}

/// Whether a record is of a call whose request was not seen: nothing is said of who asked.
fn is_pathless(record: &Value) -> bool {
    let nothing = record["credentials"].as_array().is_none_or(Vec::is_empty);
    let unknown = record["verdict"] == "unknown" && record["unknown_reason"].is_string();
    record["kind"] == "exchange" && record["request"].is_null() && unknown && nothing
}

/// One word where the same was said of all calls, else how often each.
fn cell(said: &BTreeMap<String, usize>) -> String {
    if said.len() == 1
        && let Some(only) = said.keys().next()
    {
        return only.clone();
    }
    let parts: Vec<String> = said.iter().rev().map(|(said, count)| format!("{count} {said}")).collect();
    parts.join(", ")
}

fn said(call: &Value, records: &[&Value]) -> Result<String> {
    let record = match records[..] {
        [] => return Ok("–".to_owned()),
        [record] => record,
        _ => bail!("{} records: {records:?}", records.len()),
    };
    let mut absent = Vec::new();
    for (end, who) in [("source", "client"), ("destination", "server")] {
        match &record[end]["process"]["pid"] {
            Value::Null => absent.push(who),
            pid if *pid == call[who] => {}
            pid => bail!("the {who} is {}, not {pid}; record: {record}", call[who]),
        }
    }
    let expected = &call["expected"];
    let said = match difference(expected, record) {
        None => "yes".to_owned(),
        Some(_) if is_less(expected, record) => {
            format!("unknown: {}", record["unknown_reason"].as_str().unwrap_or("no reason"))
        }
        Some(difference) => bail!("{difference}; record: {record}"),
    };
    Ok(if absent.is_empty() { said } else { format!("{said}, {} unnamed", absent.join(" and ")) })
}

/// Whether a record says less than there is, for a reason, and nothing that is not.
fn is_less(expected: &Value, record: &Value) -> bool {
    let open = |pointer: &str, words: &[&str]| {
        let said = record.pointer(pointer).unwrap_or(&Value::Null);
        expected
            .pointer(pointer)
            .is_none_or(|expected| said == expected || words.iter().any(|word| *said == json!(word)))
            || said.is_null()
    };
    let found = record["findings"].as_array().map_or(0, Vec::len);
    record["verdict"] == "unknown"
        && record["unknown_reason"].is_string()
        && (found == 0 || difference(&json!({"findings": expected["findings"]}), record).is_none())
        && open("/outcome", &["unanswered", "undetermined"])
        && open("/response/status", &[])
        && open("/response/grpc_status", &[])
        && open("/transport/version", &[])
        && open("/transport/security", &["tls", "unknown"])
        && open("/transport/client_certificate/outcome", &["undetermined"])
        && open("/transport/client_certificate/accepted", &["unknown"])
        && open("/transport/client_certificate/presented", &[])
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn call(column: &str) -> Value {
        let expected = json!({
            "reporter": "destination", "verdict": "authenticated", "outcome": "accepted", "findings": [],
            "transport": {"security": "mtls", "client_certificate": {"outcome": "presented", "accepted": "yes"}},
        });
        json!({"column": column, "find": {"source": {"port": column.len()}}, "client": 1, "server": 2, "expected": expected})
    }

    fn record(call: &Value) -> Value {
        let mut record = call["expected"].clone();
        record["source"] = json!({"port": call["find"]["source"]["port"], "process": {"pid": 1}});
        record["destination"] = json!({"process": {"pid": 2}});
        record
    }

    /// A call of each column.
    pub(in crate::vm) fn calls() -> Vec<Value> {
        // Columns of one length would find each other's records.
        let told_apart = |(at, column): (i32, &&str)| {
            let mut call = call(column);
            call["find"]["source"]["port"] = json!(at);
            call
        };
        (0..).zip(SAID_BY_ALL.iter().chain([&COPIED_IN_PART])).map(told_apart).collect()
    }

    /// What is said of such calls where all is right.
    pub(in crate::vm) fn records(calls: &[Value]) -> Vec<Value> {
        calls.iter().map(record).collect()
    }

    #[test]
    fn all_right_is_yes_in_every_column() {
        let calls = calls();
        let mut records = records(&calls);
        let said = cells("cgroup", &calls, &records).expect("all is right");
        assert!(said.len() == calls.len() && said.iter().all(|(_, cell)| cell == "yes"), "{said:?}");
        let last = records.len() - 1;
        (records[last]["verdict"], records[last]["unknown_reason"]) = (json!("unknown"), json!("gap"));
        let said = cells("fentry", &calls, &records).expect("that is allowed there");
        assert_eq!(said[last].1, "unknown: gap");
        let error = cells("cgroup", &calls, &records).expect_err("not there").to_string();
        assert!(error.contains("HTTP/2 bodies: unknown: gap, expected yes"), "{error}");
        let error = cells("fentry", &calls[1..], &records).expect_err("none was made").to_string();
        assert!(error.contains("TLS: no calls were made"), "{error}");
    }

    #[test]
    fn a_call_that_is_told_of_without_its_request_is_unknown() {
        let mut call = call("HTTP/2 bodies");
        call["find"] = json!({"request": {"path": "/a"}, "source": {"port": 7}});
        let record = json!({
            "kind": "exchange", "request": null, "verdict": "unknown", "unknown_reason": "gap", "credentials": [],
            "source": {"port": 7},
        });
        let error =
            |records: &[Value]| cells("fentry", &[call.clone()], records).expect_err("columns lack").to_string();
        assert!(is_pathless(&record) && !error(std::slice::from_ref(&record)).contains("HTTP/2 bodies"));
        let mut guessed = record.clone();
        guessed["verdict"] = json!("unauthenticated");
        assert!(!is_pathless(&guessed));
        guessed = record;
        guessed["credentials"] = json!([{"kind": "basic"}]);
        assert!(!is_pathless(&guessed));
    }

    #[test]
    fn what_is_said_twice_wrong_or_of_another_process_is_an_error() {
        let call = call("TLS");
        let right = record(&call);
        assert_eq!(said(&call, &[&right]).expect("right"), "yes");
        assert_eq!(said(&call, &[]).expect("nothing"), "–");
        assert!(said(&call, &[&right, &right]).is_err());
        let with = |pointer: &str, value: Value| {
            let mut record = right.clone();
            *record.pointer_mut(pointer).expect("it is there") = value;
            record
        };
        assert!(said(&call, &[&with("/source/process/pid", json!(3))]).is_err());
        assert!(said(&call, &[&with("/verdict", json!("unauthenticated"))]).is_err());
        assert_eq!(said(&call, &[&with("/source/process/pid", Value::Null)]).expect("less"), "yes, client unnamed");
        let mut unknown = with("/verdict", json!("unknown"));
        unknown["unknown_reason"] = json!("undetermined-tls");
        assert_eq!(said(&call, &[&unknown]).expect("less"), "unknown: undetermined-tls");
        unknown["transport"]["client_certificate"]["accepted"] = json!("no");
        assert!(said(&call, &[&unknown]).is_err());
    }

    #[test]
    fn a_cell_says_how_often_what_was_said() {
        let said = |words: &[(&str, usize)]| words.iter().map(|(word, count)| ((*word).to_owned(), *count)).collect();
        assert_eq!(cell(&said(&[("yes", 3)])), "yes");
        assert_eq!(cell(&said(&[("yes", 3), ("unknown: gap", 1)])), "3 yes, 1 unknown: gap");
    }
}
