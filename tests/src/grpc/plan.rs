//! The calls of a client to a server, and what must be said of each.

use std::fmt::Write as _;

use crate::credential::{Proof, canary};

/// A call, and what must be said of it.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Its number: the last part of its path.
    pub number: usize,
    /// The connections it goes over, one after the other.
    pub legs: Vec<Leg>,
    /// What must be said of it on each.
    pub expected: Expected,
    /// Its client says that it ended in another way, so nothing is asked of its answer: a stack has faults of its own.
    pub strayed: bool,
    shape: Shape,
    headers: Vec<(String, String)>,
}

/// Who makes a call to whom.
#[derive(Clone, Debug)]
pub struct Leg {
    /// The caller, by name.
    pub client: String,
    /// The callee, by name.
    pub server: String,
    /// Where it listens.
    pub port: u16,
}

/// What must be said of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The verdict.
    pub verdict: &'static str,
    /// The outcome.
    pub outcome: &'static str,
    /// The status of HTTP.
    pub status: Option<u16>,
    /// The status of gRPC.
    pub code: Option<u16>,
    /// The kind of its credential.
    pub credential: Option<&'static str>,
    /// The rules that speak against it.
    pub findings: Vec<&'static str>,
}

/// How a call goes.
#[derive(Clone, Copy, Debug)]
struct Shape {
    kind: &'static str,
    messages: usize,
    size: usize,
    ending: &'static str,
    mode: &'static str,
    code: u16,
    answers: usize,
    answer_size: usize,
    proof: Proof,
}

const UNARY: Shape = Shape {
    kind: "unary",
    messages: 1,
    size: 100,
    ending: "whole",
    mode: "after",
    code: 0,
    answers: 1,
    answer_size: 100,
    proof: Proof::None,
};
const CLIENT: Shape = Shape { kind: "client", messages: 5, size: 1000, ..UNARY };
const SERVER: Shape = Shape { kind: "server", answers: 8, answer_size: 3000, ..UNARY };
const BIDI: Shape = Shape { kind: "bidi", messages: 5, size: 500, mode: "echo", answers: 0, ..UNARY };
const EARLY: Shape = Shape { mode: "early", answers: 0, ..UNARY };
const FIRST: Shape = Shape { ending: "first", mode: "hang", ..SERVER };

/// The calls that come again and again; [`large`] and what [`Planner`] adds to some come on top.
const SHAPES: [Shape; 20] = [
    UNARY,
    Shape { proof: Proof::BearerJwt, ..UNARY },
    Shape { proof: Proof::ApiKey, ..UNARY },
    Shape { proof: Proof::InternalJwt, ..UNARY },
    Shape { code: 7, ..EARLY },
    Shape { code: 16, ..EARLY },
    Shape { code: 7, answers: 0, proof: Proof::BearerJwt, ..UNARY },
    Shape { code: 5, answers: 0, ..UNARY },
    Shape { proof: Proof::BearerJwt, ..CLIENT },
    Shape { kind: "client", messages: 5, size: 1000, code: 16, ..EARLY },
    SERVER,
    Shape { code: 13, answers: 3, proof: Proof::BearerJwt, ..SERVER },
    BIDI,
    Shape { code: 7, proof: Proof::InternalJwt, ..BIDI },
    Shape { answers: 1, proof: Proof::BearerJwt, ..FIRST },
    Shape { kind: "bidi", answers: 3, ..FIRST },
    Shape { ending: "silent", mode: "hang", answers: 0, proof: Proof::BearerJwt, ..BIDI },
    // The call that a silent one waits for.
    UNARY,
    Shape { proof: Proof::BearerJwt, ..UNARY },
    Shape { size: 20_000, answer_size: 40_000, proof: Proof::ApiKey, ..UNARY },
];
/// The call whose metadata is now and then longer than a frame: it goes on in CONTINUATION.
const LONG: usize = 18;
/// The call that is now and then one of megabytes.
const BULKY: usize = 19;

/// Plans calls; each gets a number of its own.
#[derive(Debug, Default)]
pub struct Planner {
    planned: Vec<Planned>,
    next: usize,
}

impl Planner {
    /// All that was planned since the last time.
    pub fn take(&mut self) -> Vec<Planned> {
        std::mem::take(&mut self.planned)
    }

    /// So many rounds of all shapes that go over the same connections.
    pub fn rounds(&mut self, legs: &[Leg], rounds: usize) {
        // Each its own: a credential that several callers use, or that goes to several services, is a finding.
        let secrets: Vec<String> = SHAPES.iter().map(|_| canary()).collect();
        for round in 0..rounds {
            for (at, shape) in SHAPES.iter().enumerate() {
                let mut shape = *shape;
                if shape.ending == "silent" && legs.len() > 1 {
                    // Whether it was passed on cannot be known.
                    shape = BIDI;
                }
                if at == BULKY && round % 10 == 9 {
                    (shape.size, shape.answer_size) = (2_000_000, 2_000_000);
                }
                let mut headers = shape.proof.send(&secrets[at], "POST", "/").headers;
                headers.iter_mut().for_each(|(name, _)| name.make_ascii_lowercase());
                if at == LONG && round % 4 == 0 {
                    headers.insert(0, ("x-long".into(), format!("{round:->40000}")));
                    headers.push(("x-trace-bin".into(), format!("trace-{round}")));
                }
                let Shape { mode, code, answers, answer_size, .. } = shape;
                headers.push(("x-answer".into(), format!("{mode} {code} {answers} {answer_size}")));
                let (number, legs, expected) = (self.next, legs.to_vec(), expected(&shape));
                self.planned.push(Planned { number, legs, expected, strayed: false, shape, headers });
                self.next += 1;
            }
        }
    }
}

impl Planned {
    /// Its path.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/oracle.Calls/{}", self.number)
    }

    /// The call as clients read it.
    pub(super) fn line(&self) -> String {
        let Shape { kind, messages, size, ending, code, .. } = self.shape;
        let status = if ending == "whole" { code } else { 1 };
        let (number, port) = (self.number, self.legs[0].port);
        let mut line = format!("{number}\t{port}\t{kind}\t{messages}\t{size}\t{ending}\t{status}");
        for (name, value) in &self.headers {
            // Writing to a string cannot fail.
            let _ = write!(line, "\t{name}={value}");
        }
        line + "\n"
    }
}

fn expected(shape: &Shape) -> Expected {
    let verdict = match shape.proof {
        Proof::None => "unauthenticated",
        proof if proof.findings().is_empty() => "authenticated",
        _ => "weak",
    };
    // What is cancelled has no status of gRPC: HTTP's counts.
    let (outcome, status, code) = match (shape.ending, shape.code) {
        ("silent", _) => ("unanswered", None, None),
        ("first", _) => ("accepted", Some(200), None),
        (_, 0) => ("accepted", Some(200), Some(0)),
        (_, code @ (7 | 16)) => ("refused", Some(200), Some(code)),
        (_, code) => ("failed", Some(200), Some(code)),
    };
    let mut findings = shape.proof.findings().to_vec();
    if shape.proof == Proof::None && outcome != "refused" {
        findings.push("unauthenticated-call");
    }
    Expected { verdict, outcome, status, code, credential: shape.proof.kind(), findings }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(ports: &[u16]) -> Vec<Planned> {
        let leg = |port: &u16| Leg { client: "a".into(), server: "b".into(), port: *port };
        let mut planner = Planner::default();
        planner.rounds(&ports.iter().map(leg).collect::<Vec<_>>(), 1);
        planner.take()
    }

    #[test]
    fn silent_calls_have_one_behind_them_that_is_answered() {
        let planned = planned(&[80]);
        let silent = planned.iter().filter(|call| call.shape.ending == "silent");
        for call in silent {
            let next = &planned[call.number + 1];
            assert_eq!((next.shape.ending, next.shape.mode, next.expected.outcome), ("whole", "after", "accepted"));
        }
    }

    #[test]
    fn a_call_is_a_line_of_words() {
        let planned = planned(&[80, 81]);
        assert_eq!(planned[4].line(), "4\t80\tunary\t1\t100\twhole\t7\tx-answer=early 7 0 100\n");
        assert!(planned.iter().all(|call| call.shape.ending != "silent"));
        assert!(planned[LONG].line().len() > 40_000);
    }
}
