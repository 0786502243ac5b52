//! What was made against what was said: a row for each client and each server.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use serde_json::Value;

use crate::{
    auditor::port,
    grpc::plan::{Expected, Leg, Planned},
};

/// What is found where a credential is passed on, from some call on: that depends on when the callers were first seen.
const PASSED_ON: &[&str] = &["credential-replayed", "shared-credential"];
/// What clients say of a call that broke off (`INTERNAL`): of one that was planned to end like that it cannot be told whether it did.
const BROKEN_OFF: Option<u16> = Some(13);
/// Differences that are printed of each pair of stacks.
const SHOWN: usize = 3;

/// What came of the calls of one client, or to one server.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Streams that were made.
    pub made: usize,
    /// Those of which was said what had to be said, once.
    pub judged: usize,
    /// Those of which was said that it is not known, by reason.
    pub unknown: BTreeMap<String, usize>,
    /// All others.
    pub wrong: usize,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Comparison {
    /// By name, and `client` or `server`.
    pub rows: BTreeMap<(String, &'static str), Tally>,
    /// What is wrong, by who calls whom.
    pub differences: BTreeMap<String, Vec<String>>,
    /// Streams in all; each stands in two rows.
    pub made: usize,
}

/// What became of a stream.
enum Said {
    Right,
    Unknown(String),
    Wrong(String),
}

/// How much of the connections could be seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sight {
    /// All.
    #[default]
    Whole,
    /// What came after the auditor: connections were there before.
    Later,
    /// All but what the network lost, and in another order.
    Losses,
}

impl Sight {
    /// Whether a call may be unknown for this reason.
    fn may_be_unknown_for(self, reason: &str) -> bool {
        match self {
            Self::Whole => !reason.is_empty(),
            Self::Later => ["hpack-lost", "mid-stream"].contains(&reason),
            Self::Losses => ["hpack-lost", "gap"].contains(&reason),
        }
    }
}

/// What makes it uncertain what must be said of a call.
#[derive(Clone, Copy, Debug, Default)]
struct Doubt {
    sight: Sight,
    /// It ended in another way than was planned.
    strayed: bool,
}

/// Holds records against calls.
#[must_use]
pub fn compare(planned: &[Planned], records: &[Value], sight: Sight) -> Comparison {
    let (mut told, mut pathless) = (HashMap::<(u16, &str), Vec<&Value>>::new(), HashMap::<u16, Vec<&Value>>::new());
    // Connections have records of their own.
    for record in records.iter().filter(|record| record["kind"] == "exchange") {
        let Some(port) = port(record, "destination") else { continue };
        match record["request"]["path"].as_str() {
            Some(path) => told.entry((port, path)).or_default().push(record),
            None => pathless.entry(port).or_default().push(record),
        }
    }
    let mut comparison = Comparison::default();
    for call in planned {
        let path = call.path();
        let doubt =
            Doubt { sight, strayed: call.strayed || sight == Sight::Losses && call.expected.code == BROKEN_OFF };
        for leg in &call.legs {
            let came = told.get(&(leg.port, path.as_str())).map_or(&[][..], Vec::as_slice);
            let said = match came {
                [record] => hold(&call.expected, &passed_on(call, record), doubt),
                // Told of without a request: which one it was is not known.
                [] if sight != Sight::Whole => match pathless.get_mut(&leg.port).and_then(Vec::pop) {
                    Some(record) => hold_pathless(record, sight),
                    None => Said::Wrong("not told of".into()),
                },
                _ => {
                    let came: Vec<String> = came.iter().map(|record| brief(record)).collect();
                    Said::Wrong(format!("told of {} times: {}", came.len(), came.join("; ")))
                }
            };
            comparison.count(leg, &path, said);
        }
    }
    let ours = planned.iter().flat_map(|call| &call.legs).map(|leg| (leg.port, leg));
    for (port, leg) in ours.collect::<BTreeMap<_, _>>() {
        let left = pathless.remove(&port).unwrap_or_default();
        let nobodys = left.iter().map(|record| format!("nobody made this: {}", brief(record)));
        comparison.differences.entry(format!("somebody to {}", leg.server)).or_default().extend(nobodys);
    }
    comparison.differences.retain(|_, differences| !differences.is_empty());
    comparison
}

/// The record of a call, without what was found because it was passed on.
fn passed_on(call: &Planned, record: &Value) -> Value {
    let mut record = record.clone();
    if call.legs.len() > 1
        && let Some(findings) = record["findings"].as_array_mut()
    {
        let before = findings.len();
        findings.retain(|finding| !PASSED_ON.iter().any(|rule| finding["rule"] == *rule));
        if findings.is_empty() && before > 0 {
            record["verdict"] = "authenticated".into();
        }
    }
    record
}

/// What of a record is looked at.
fn brief(record: &Value) -> String {
    let names = ["verdict", "unknown_reason", "outcome", "response", "protocol", "reporter", "findings"];
    let parts = names.map(|name| format!("{name} {}", record[name]));
    let kinds: Vec<String> = list(record, "credentials", "kind");
    format!("{}, credentials {kinds:?}", parts.join(", "))
}

/// A text of each item of a list in a record.
fn list(record: &Value, list: &str, key: &str) -> Vec<String> {
    let items = record[list].as_array().into_iter().flatten();
    items.filter_map(|item| item[key].as_str().map(str::to_owned)).collect()
}

/// What is told of without a request is right when nothing is said of who asked.
fn hold_pathless(record: &Value, sight: Sight) -> Said {
    let reason = record["unknown_reason"].as_str().unwrap_or_default();
    let says_nothing = record["verdict"] == "unknown" && list(record, "credentials", "kind").is_empty();
    if says_nothing && sight.may_be_unknown_for(reason) {
        Said::Unknown(format!("{reason}, without its request"))
    } else {
        Said::Wrong(format!("without its request: {}", brief(record)))
    }
}

fn hold(expected: &Expected, record: &Value, Doubt { sight, strayed }: Doubt) -> Said {
    let text = |name: &str| record[name].as_str().unwrap_or_default();
    let (verdict, outcome) = (text("verdict"), text("outcome"));
    let number = |name: &str| record["response"][name].as_u64().and_then(|number| u16::try_from(number).ok());
    let (status, code) = (number("status"), number("grpc_status"));
    let (credentials, findings) = (list(record, "credentials", "kind"), list(record, "findings", "rule"));
    let answered = strayed || (outcome, status, code) == (expected.outcome, expected.status, expected.code);
    let proven = credentials == expected.credential.as_slice();
    if verdict == "unknown" {
        let reason = text("unknown_reason").to_owned();
        // What is not known may not be said: neither an outcome that was another one, nor a credential that was not there.
        let outcome_known = answered || outcome == "unanswered";
        let nothing_false = outcome_known && (proven || credentials.is_empty());
        return if nothing_false && sight.may_be_unknown_for(&reason) {
            Said::Unknown(reason)
        } else {
            Said::Wrong(format!("{} is not {expected:?}", brief(record)))
        };
    }
    // A status that stands in the part of the table that was not seen leaves a call without a response.
    let later = sight == Sight::Later;
    let unseen = later && outcome == "unanswered" && status.is_none();
    let found = findings == expected.findings || unseen || strayed;
    let right = verdict == expected.verdict && proven && found && (answered || unseen);
    // What says that it is gRPC may stand there, too.
    let named = text("protocol") == "grpc" || (sight != Sight::Whole && text("protocol") == "http/2");
    // The end that saw it whole tells of it.
    let reported = text("reporter") == "destination" || sight == Sight::Losses;
    match right && named && reported {
        true if answered => Said::Right,
        true => Said::Unknown("response".into()),
        false => Said::Wrong(format!("{} is not {expected:?}", brief(record))),
    }
}

impl Comparison {
    fn count(&mut self, leg: &Leg, path: &str, said: Said) {
        self.made += 1;
        for (name, role) in [(&leg.client, "client"), (&leg.server, "server")] {
            let row = self.rows.entry((name.clone(), role)).or_default();
            row.made += 1;
            match &said {
                Said::Right => row.judged += 1,
                Said::Unknown(reason) => *row.unknown.entry(reason.clone()).or_default() += 1,
                Said::Wrong(_) => row.wrong += 1,
            }
        }
        if let Said::Wrong(difference) = said {
            let pair = format!("{} to {}", leg.client, leg.server);
            self.differences.entry(pair).or_default().push(format!("{path}: {difference}"));
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| stack | as | streams | judged | unknown | wrong |\n|---|---|---|---|---|---|")?;
        for ((name, role), Tally { made, judged, unknown, wrong }) in &self.rows {
            let reasons: Vec<String> = unknown.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
            let reasons = if reasons.is_empty() { "0".to_owned() } else { reasons.join(", ") };
            writeln!(f, "| {name} | {role} | {made} | {judged} | {reasons} | {wrong} |")?;
        }
        for (pair, differences) in &self.differences {
            writeln!(f, "{pair}: {} differences", differences.len())?;
            differences.iter().take(SHOWN).try_for_each(|difference| writeln!(f, "  {difference}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn expected() -> Expected {
        Expected {
            verdict: "weak",
            outcome: "refused",
            status: Some(200),
            code: Some(7),
            credential: Some("api-key"),
            findings: vec!["static-api-key"],
        }
    }

    fn record() -> Value {
        json!({
            "verdict": "weak", "outcome": "refused", "protocol": "grpc", "reporter": "destination", "unknown_reason": null,
            "response": {"status": 200, "grpc_status": 7}, "credentials": [{"kind": "api-key"}], "findings": [{"rule": "static-api-key"}],
        })
    }

    #[test]
    fn every_difference_is_found() {
        assert!(matches!(hold(&expected(), &record(), Doubt::default()), Said::Right));
        let changes = [
            ("/verdict", json!("authenticated")),
            ("/verdict", json!("unknown")),
            ("/outcome", json!("accepted")),
            ("/outcome", json!("unanswered")),
            ("/protocol", json!("http/2")),
            ("/reporter", json!("source")),
            ("/response/status", json!(503)),
            ("/response/grpc_status", Value::Null),
            ("/credentials", json!([])),
            ("/findings", json!([])),
        ];
        for (at, value) in changes {
            let mut changed = record();
            *changed.pointer_mut(at).expect("it is there") = value;
            assert!(matches!(hold(&expected(), &changed, Doubt::default()), Said::Wrong(_)), "{changed}");
        }
    }

    #[test]
    fn what_is_not_known_may_be_less_and_not_false() {
        let mut unknown = record();
        unknown["verdict"] = json!("unknown");
        unknown["unknown_reason"] = json!("hpack-lost");
        (unknown["credentials"], unknown["findings"]) = (json!([]), json!([]));
        assert!(
            matches!(hold(&expected(), &unknown, Doubt { sight: Sight::Later, strayed: false }), Said::Unknown(reason) if reason == "hpack-lost")
        );
        unknown["outcome"] = json!("accepted");
        assert!(matches!(hold(&expected(), &unknown, Doubt { sight: Sight::Later, strayed: false }), Said::Wrong(_)));
        let mut unanswered = record();
        (unanswered["outcome"], unanswered["response"]) = (json!("unanswered"), Value::Null);
        assert!(matches!(
            hold(&expected(), &unanswered, Doubt { sight: Sight::Later, strayed: false }),
            Said::Unknown(_)
        ));
        assert!(matches!(hold(&expected(), &unanswered, Doubt::default()), Said::Wrong(_)));
    }

    #[test]
    fn of_a_stray_only_the_request_is_held() {
        let stray = Doubt { sight: Sight::Whole, strayed: true };
        let mut record = record();
        record["outcome"] = json!("failed");
        record["response"]["grpc_status"] = json!(13);
        assert!(matches!(hold(&expected(), &record, Doubt::default()), Said::Wrong(_)));
        assert!(matches!(hold(&expected(), &record, stray), Said::Right));
        record["credentials"] = json!([]);
        assert!(matches!(hold(&expected(), &record, stray), Said::Wrong(_)));
    }
}
