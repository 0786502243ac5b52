//! From heads to judgements: every rule fires and does not, and no secret comes out anywhere.

mod across;
mod calls;
mod canary;
mod canary_sinks;
#[expect(dead_code, reason = "the tests beside the code use the rest")]
#[path = "../../src/certificates/sample.rs"]
mod certificates;
mod connections;
mod every_rule;
mod extraction;
mod http2;
mod inside_tls;
mod policy_file;
mod policy_input;
mod policy_text;
mod proofs;
mod recorded_claims;
mod rules;
mod tls;
mod unix;
/// What the keys of tests are made with.
mod keys {
    pub(crate) use auditor::credentials::keys::Algorithm;
}
#[expect(dead_code, reason = "the tests beside the code use the rest")]
#[path = "../../src/credentials/sample.rs"]
mod tokens;

use auditor::{
    credentials::{Extractor, FingerprintKey, Settings},
    judgement::Judgement,
    policy::{self, Judge},
};

/// A judge with all defaults.
fn judge() -> Judge {
    let extractor = Extractor::new(Settings::default(), FingerprintKey::from_bytes([7; 32]));
    Judge::new(policy::Settings::default(), extractor)
}

/// The judgement of a call.
fn judged(request: &str, response: &str) -> Judgement {
    judge().exchange(calls::call(request, response)).expect("an internal call")
}
