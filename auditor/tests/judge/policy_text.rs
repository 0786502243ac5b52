//! Any text as a policy: read or refused with one line, never a panic; what is read judges.

use std::path::Path;

use auditor::policy::rulebook::Rulebook;
use proptest::{
    prelude::*,
    test_runner::{Config, RngSeed},
};

use crate::{calls::call, judge, policy_file::ORDERS, policy_input};

fn config() -> Config {
    Config { cases: 256, failure_persistence: None, rng_seed: RngSeed::Fixed(20_261_122), ..Config::default() }
}

/// Reads a policy, and judges a call by it.
fn take(text: &str) -> Result<(), TestCaseError> {
    match Rulebook::parse(Path::new("policy.yaml"), text, jiff::civil::date(2026, 11, 22)) {
        Ok(rulebook) => {
            let mut judge = judge();
            judge.set_policy(rulebook);
            let request = "GET /tenants/acme/orders/7 HTTP/1.1\r\nHost: orders\r\nX-Api-Key: k3y\r\n\r\n";
            prop_assert!(judge.exchange(call(request, "HTTP/1.1 200 OK\r\n\r\n")).is_some());
        }
        Err(error) => {
            let said = error.to_string();
            prop_assert!(said.lines().count() == 1 && said.len() < 2000, "{said}\nof {text}");
        }
    }
    Ok(())
}

#[test]
fn conditions_nested_however_deep_are_read_or_refused() {
    for (opens, closes) in [
        ("(", ")"),
        ("!", ""),
        ("!(", ")"),
        ("- ", ""),
        ("[", "]"),
        ("true ? true : ", ""),
        ("f(", ")"),
        ("has(a.", ")"),
    ] {
        for depth in [1, 16, 32, 33, 100, 500] {
            let condition = format!("{}true{}", opens.repeat(depth), closes.repeat(depth));
            let text = format!("version: 1\nroutes:\n  - name: r\n    match: {{path: /a}}\n    when: '{condition}'\n");
            take(&text).unwrap_or_else(|error| panic!("{depth} of {opens}: {error}"));
        }
    }
}

/// Policy files and conditions that are changed at random.
fn corpus() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/judge/policies");
    let mut paths: Vec<_> =
        std::fs::read_dir(folder).expect("a corpus").map(|entry| entry.expect("a file").path()).collect();
    paths.sort();
    paths.into_iter().map(|path| std::fs::read(path).expect("a file")).collect()
}

#[test]
fn policies_and_conditions_are_read_or_refused() {
    corpus().iter().for_each(|input| policy_input::check(input));
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn changed_policies_and_conditions_are_read_or_refused(
        which in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        length in 0..12_usize,
        with in "[ -~\\n]{0,8}",
    ) {
        let inputs = corpus();
        let mut input = which.get(&inputs).clone();
        let start = 1 + at.index(input.len() - 1);
        input.splice(start..input.len().min(start + length), with.into_bytes());
        policy_input::check(&input);
    }

    #[test]
    fn any_text_is_read_or_refused(text: String) {
        take(&text)?;
    }

    #[test]
    fn a_changed_policy_is_read_or_refused(at in any::<prop::sample::Index>(), length in 0..24_usize, with in "[ -~\n]{0,6}") {
        let mut text = ORDERS.to_owned();
        let start = at.index(text.len());
        text.replace_range(start..text.len().min(start + length), &with);
        take(&text)?;
    }
}
