//! Any bytes as text with tokens in it: no panic, tokens inside of the text, and claims that are short and fit to be shown.
#![no_main]
#![expect(dead_code, reason = "finding credentials uses the rest of these files")]

use libfuzzer_sys::fuzz_target;

// The reader's own files: the crate they are part of would bring the whole daemon with it.
#[path = "../../auditor/src/credentials/claims.rs"]
mod claims;
#[path = "../../auditor/src/credentials/jwt.rs"]
mod jwt;
#[path = "../../auditor/src/credentials/shape.rs"]
mod shape;

use claims::{Claims, Profile};

fn check(text: &[u8]) {
    let _ = jwt::possible(text);
    let mut last = 0;
    for (range, claims) in jwt::find(text) {
        assert!(last <= range.start && range.end <= text.len());
        assert!(jwt::possible(text), "a token that was found is possible");
        last = range.end;
        check_claims(&claims);
    }
}

fn check_claims(claims: &Claims) {
    let lists = [&claims.aud, &claims.scope, &claims.roles];
    let texts =
        [&claims.alg, &claims.enc, &claims.kid, &claims.cty, &claims.iss, &claims.sub, &claims.act, &claims.cnf];
    assert!(claims.alg.is_some() && lists.iter().all(|list| list.len() <= 16));
    let all = texts.into_iter().flatten().chain(lists.into_iter().flatten());
    assert!(all.into_iter().all(|text| text.len() <= 128 && !text.chars().any(char::is_control)));
}

fuzz_target!(|bytes: &[u8]| check(bytes));
