//! What must be said of a connection.

use serde_json::{Value, json};

use crate::tls::{
    certificates::{ClientCertificate, SPIFFE_ID},
    plan::{Outcome, Planned},
    servers::{Mode, Version},
};

/// What must stand in the record of a connection.
#[derive(Debug)]
pub struct Expected {
    /// Fields by their JSON pointer, each with the values that are right.
    fields: Vec<(&'static str, Vec<Value>)>,
    /// Rules that fire, sorted.
    findings: Vec<&'static str>,
    /// Any of it may be left open.
    open: bool,
    /// What the client gave, where the record says that it is not known what the server made of it.
    gave: Option<&'static str>,
}

/// What stands for what is not known, besides null.
const OPEN: [(&str, &str); 5] = [
    ("/transport/security", "unknown"),
    ("/transport/client_certificate/outcome", "undetermined"),
    ("/transport/client_certificate/accepted", "unknown"),
    ("/transport/client_certificate/evidence", "unknown"),
    ("/outcome", "unanswered"),
];

impl Expected {
    /// What must be said of this connection. `record` is what was said: where several things are right together, it shows which
    /// of them are meant.
    #[must_use]
    pub fn of(planned: &Planned, record: &Value) -> Self {
        let outcome = planned.outcome();
        let version = planned.endpoint.version;
        let requested = planned.endpoint.mode != Mode::Off;
        let accepted = planned.accepted();
        let mut fields = vec![
            ("/kind", vec![json!("connection")]),
            ("/protocol", vec![json!("tls")]),
            ("/request", vec![Value::Null]),
            ("/transport/version", vec![json!(format!("TLS {}", version.number()))]),
            ("/transport/resumed", vec![json!(outcome == Outcome::Resumed)]),
            ("/transport/client_certificate/outcome", vec![json!(outcome.as_str())]),
            ("/transport/client_certificate/accepted", vec![json!(if accepted { "yes" } else { "no" })]),
            ("/outcome", vec![json!(if accepted { "accepted" } else { "refused" })]),
            // What is not known is null; what is said is true.
            ("/transport/client_certificate/requested", vec![Value::Null, json!(requested)]),
        ];
        // In clear all is read. Of encrypted records the lengths tell.
        let told = json!(if version == Version::Tls12 { "proven" } else { "inferred" });
        let given = json!(planned.certificate.is_given());
        let mut add = |name, values: Vec<Value>| fields.push((name, values));
        let mut findings = Vec::new();
        match outcome {
            Outcome::None | Outcome::Empty => {
                add("/transport/client_certificate/presented", vec![json!(false)]);
                findings.push("no-client-identity");
            }
            Outcome::Presented => {
                add("/transport/client_certificate/presented", vec![json!(true)]);
                identity(planned, &mut fields);
            }
            // It may have come to nobody's eyes before the end.
            Outcome::Rejected => add("/transport/client_certificate/presented", vec![Value::Null, given]),
            Outcome::Resumed => {
                // Not sent again in this connection.
                add("/transport/client_certificate/presented", vec![Value::Null, json!(false)]);
                add("/transport/client_certificate/inherited", vec![Value::Null, given]);
            }
        }
        let mut add = |name, values: Vec<Value>| fields.push((name, values));
        match outcome {
            Outcome::Resumed => {
                add("/transport/client_certificate/evidence", vec![json!("inherited"), json!("unknown")])
            }
            _ => add("/transport/client_certificate/evidence", vec![told]),
        }
        let inherited = record.pointer("/transport/client_certificate/inherited") == Some(&json!(true));
        let (security, verdicts) = match outcome {
            Outcome::Presented if is_visibly_bad(planned) => {
                findings.push("untrusted-client-certificate");
                ("mtls", vec![json!(["weak", null])])
            }
            Outcome::Presented => ("mtls", vec![json!(["authenticated", null])]),
            Outcome::Resumed if inherited => ("mtls", vec![json!(["authenticated", null])]),
            Outcome::Resumed => ("tls", vec![json!(["unknown", "resumed-tls"])]),
            Outcome::None | Outcome::Empty => ("tls", vec![json!(["unknown", "encrypted"])]),
            // Nobody was let in: nothing was proven, and what the client could have proven is not known.
            Outcome::Rejected => {
                ("tls", vec![json!(["unauthenticated", null]), json!(["unknown", "undetermined-tls"])])
            }
        };
        add("/transport/security", vec![json!(security)]);
        add("/credentials/0/kind", vec![if security == "mtls" { json!("mtls") } else { Value::Null }]);
        add("verdict and reason", verdicts);
        let undecided = record["transport"]["client_certificate"]["accepted"] == "unknown";
        let gave = undecided.then_some(if planned.certificate.is_given() { "presented" } else { "empty" });
        Self { fields, findings, open: false, gave }
    }

    /// The same where not everything could be seen: it may be less, it may not be false.
    #[must_use]
    pub fn or_open(mut self) -> Self {
        for (name, right) in &mut self.fields {
            let open = OPEN.iter().find(|(open, _)| open == name);
            right.push(open.map_or(Value::Null, |(_, word)| json!(word)));
            match *name {
                // The end of the handshake was lost, and with it that the server refused.
                "/transport/client_certificate/outcome" => right.extend(self.gave.map(|gave| json!(gave))),
                // TLS of which no more is known.
                "/transport/security" => right.push(json!("tls")),
                "verdict and reason" => right.extend(
                    ["encrypted", "undetermined-tls", "mid-stream", "gap", "resumed-tls"]
                        .map(|why| json!(["unknown", why])),
                ),
                _ => {}
            }
        }
        Self { open: true, ..self }
    }

    /// What in a record is not as expected.
    #[must_use]
    pub fn mismatches(&self, record: &Value) -> Vec<String> {
        let mut wrong = Vec::new();
        let together = json!([record["verdict"], record["unknown_reason"]]);
        for (name, right) in &self.fields {
            let came = if name.starts_with('/') { record.pointer(name).unwrap_or(&Value::Null) } else { &together };
            if !right.contains(came) {
                let right: Vec<String> = right.iter().map(Value::to_string).collect();
                wrong.push(format!("{name} is {came}, not {}", right.join(" or ")));
            }
        }
        let items = record["findings"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut findings: Vec<&str> = items.iter().filter_map(|item| item["rule"].as_str()).collect();
        findings.sort_unstable();
        let fine = if self.open {
            findings.iter().all(|finding| self.findings.contains(finding))
        } else {
            findings == self.findings
        };
        if !fine {
            wrong.push(format!("findings are {findings:?}, not {:?}", self.findings));
        }
        wrong
    }
}

/// A certificate that should not have been accepted, in a handshake in which it can be read.
fn is_visibly_bad(planned: &Planned) -> bool {
    planned.endpoint.version == Version::Tls12 && !planned.certificate.is_good()
}

/// Who the client says it is: in clear before TLS 1.3, not visible in it.
fn identity(planned: &Planned, fields: &mut Vec<(&'static str, Vec<Value>)>) {
    let visible = planned.endpoint.version == Version::Tls12;
    let spiffe = planned.certificate == ClientCertificate::Spiffe;
    let shown = |value: Value, shown: bool| vec![if shown { value } else { Value::Null }];
    let subject = json!(format!("CN={}", planned.certificate));
    fields.push(("/transport/client_certificate/subject", shown(subject, visible)));
    fields.push(("/transport/client_certificate/spiffe_id", shown(json!(SPIFFE_ID), visible && spiffe)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::{clients::ClientKind, plan::matrix, servers::ServerKind};

    /// A record that is right: the first of the values that are, field by field.
    fn faultless(planned: &Planned) -> Value {
        let expected = Expected::of(planned, &Value::Null);
        let mut record = json!({"transport": {"client_certificate": {}}, "credentials": [{}]});
        for (name, right) in &expected.fields {
            match name.rsplit_once('/') {
                Some((parent, field)) => record.pointer_mut(parent).unwrap()[field] = right[0].clone(),
                None => (record["verdict"], record["unknown_reason"]) = (right[0][0].clone(), right[0][1].clone()),
            }
        }
        let findings: Vec<Value> = expected.findings.iter().map(|rule| json!({"rule": rule})).collect();
        record["findings"] = json!(findings);
        record
    }

    #[test]
    fn what_is_right_has_no_mismatch_and_what_is_not_has_one() {
        for planned in matrix(&ClientKind::ALL, &ServerKind::ALL) {
            let record = faultless(&planned);
            let mismatches = |record: &Value| Expected::of(&planned, record).mismatches(record);
            assert_eq!(mismatches(&record), Vec::<String>::new(), "{planned}: {record}");
            for pointer in ["/transport/security", "/transport/client_certificate/outcome", "/verdict", "/outcome"] {
                let mut wrong = record.clone();
                *wrong.pointer_mut(pointer).unwrap() = json!("something else");
                assert_eq!(mismatches(&wrong).len(), 1, "{planned}: {pointer}");
            }
            let mut wrong = record.clone();
            wrong["findings"] = json!([{"rule": "unauthenticated-call"}]);
            assert_eq!(mismatches(&wrong).len(), 1, "{planned}");
        }
    }

    #[test]
    fn a_lost_refusal_leaves_what_the_client_gave_and_nothing_accepted() {
        for planned in matrix(&ClientKind::ALL, &ServerKind::ALL) {
            if planned.outcome() != Outcome::Rejected {
                continue;
            }
            let mut record = faultless(&planned);
            record["findings"] = json!([]);
            let gave = if planned.certificate.is_given() { "presented" } else { "empty" };
            record["transport"]["client_certificate"]["outcome"] = json!(gave);
            let wrong = |record: &Value| !Expected::of(&planned, record).or_open().mismatches(record).is_empty();
            assert!(wrong(&record), "{planned}: refused, and said what was given");
            record["transport"]["client_certificate"]["accepted"] = json!("unknown");
            assert!(!wrong(&record), "{planned}");
            record["transport"]["client_certificate"]["accepted"] = json!("yes");
            assert!(wrong(&record), "{planned}: accepted");
        }
    }

    #[test]
    fn a_resumed_session_is_mutual_tls_only_by_what_it_truly_inherits() {
        let planned = matrix(&[ClientKind::Go], &[ServerKind::Nginx]);
        let resumed: Vec<&Planned> = planned.iter().filter(|planned| planned.resumes).collect();
        assert!(!resumed.is_empty());
        for planned in resumed {
            let mut record = faultless(planned);
            record["transport"]["client_certificate"]["inherited"] = json!(true);
            record["transport"]["security"] = json!("mtls");
            record["credentials"] = json!([{"kind": "mtls"}]);
            (record["verdict"], record["unknown_reason"]) = (json!("authenticated"), Value::Null);
            let wrong = Expected::of(planned, &record).mismatches(&record);
            assert_eq!(wrong.is_empty(), planned.was_mutual(), "{planned}: {wrong:?}");
        }
    }
}
