//! Every rule of calls, provoked by real calls to services in Python, Node and Go, and nothing else found; and the same calls under
//! a policy, live and replayed from a recording. Rules of TLS connections are in `tls.rs`, calls from node to node and through a proxy in `crosscall.rs`.

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
};

use auditor_tests::{
    auditor::{Auditor, command, run_to_end},
    credential::canary,
    issuer::{self, ISSUER, Issuer},
    oneshot::feed,
    process::PATIENCE,
    rig::Rig,
    servers::ServerKind,
    tools::program,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};

const LOOPBACK: [IpAddr; 1] = [IpAddr::V4(Ipv4Addr::LOCALHOST)];
const SERVICES: [ServerKind; 3] = [ServerKind::Python, ServerKind::Node, ServerKind::Go];
/// Programs that call: copies of curl, which are workloads by their names.
const CALLERS: [&str; 3] = ["web", "cart", "nightly"];
/// Who the tokens are for.
const AUDIENCE: &str = "interior";

/// A call, and what must be found.
struct Case {
    name: &'static str,
    caller: &'static str,
    /// Everything of the target before the part that tells calls apart.
    route: &'static str,
    query: String,
    headers: Vec<String>,
    /// Without a policy.
    plain: &'static [&'static str],
    /// Under the policy.
    ruled: &'static [&'static str],
}

/// A case of `web` calling what serves everyone, and what must be found with and without the policy.
fn case(
    name: &'static str,
    headers: &[(&str, &str)],
    plain: &'static [&'static str],
    ruled: &'static [&'static str],
) -> Case {
    let headers = headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    Case { name, caller: "web", route: "/open/north", query: String::new(), headers, plain, ruled }
}

/// The case of a bearer token with these claims changed, or taken away where they are null.
fn token_case(
    issuer: &Issuer,
    name: &'static str,
    changes: Value,
    plain: &'static [&'static str],
    ruled: &'static [&'static str],
) -> Case {
    let token = issuer.token(&changed(changes)).expect("signed");
    case(name, &[("Authorization", &format!("Bearer {token}"))], plain, ruled)
}

fn changed(changes: Value) -> Value {
    let mut claims = issuer::claims(AUDIENCE);
    for (name, value) in changes.as_object().expect("an object") {
        match value {
            Value::Null => drop(claims.as_object_mut().expect("an object").remove(name)),
            value => claims[name] = value.clone(),
        }
    }
    claims
}

/// What calls a service is sent. Credentials differ from service to service and from case to case, so that the rules across calls
/// have nothing to find.
fn cases(issuer: &Issuer) -> Vec<Case> {
    let now = issuer::now();
    let bearer = |token: String| format!("Bearer {token}");
    let sound = || bearer(issuer.token(&issuer::claims(AUDIENCE)).expect("signed"));
    let basic = format!("Basic {}", BASE64_STANDARD.encode(format!("web:{}", canary())));
    let stranger = Issuer::new().and_then(|other| other.token(&issuer::claims(AUDIENCE))).expect("signed");
    let signature = format!("sig1=:{}:", BASE64_STANDARD.encode(canary()));
    let created = format!("sig1=(\"@method\");created={now};keyid=\"{}\"", canary());
    let certificate = format!("Hash={0}{0};URI=spiffe://interior.test/web", &canary()[..32]);
    let with = |changes: Value, name, plain, ruled| token_case(issuer, name, changes, plain, ruled);
    vec![
        case("nothing", &[], &["unauthenticated-call"], &["unauthenticated-call"]),
        case("sound", &[("Authorization", &sound())], &[], &[]),
        case("basic", &[("Authorization", &basic)], &["basic-credential"], &["basic-credential", "policy-violation"]),
        case("key", &[("X-API-Key", &canary())], &["static-api-key"], &["static-api-key", "policy-violation"]),
        Case {
            query: format!("?api_key={}", canary()),
            ..case(
                "key-in-url",
                &[],
                &["credential-in-url", "static-api-key"],
                &["credential-in-url", "static-api-key", "policy-violation"],
            )
        },
        case(
            "unsigned",
            &[("Authorization", &bearer(issuer::unsigned(&issuer::claims(AUDIENCE))))],
            &["jwt-unsigned"],
            &["jwt-unsigned", "policy-violation"],
        ),
        case(
            "forged",
            &[("Authorization", &bearer(stranger))],
            &["jwt-bad-signature"],
            &["jwt-bad-signature", "policy-violation"],
        ),
        with(
            json!({"exp": now - 300, "iat": now - 600}),
            "expired",
            &["jwt-expired-accepted"],
            &["jwt-expired-accepted"],
        ),
        with(json!({"nbf": now + 3600}), "early", &["jwt-not-yet-valid"], &["jwt-not-yet-valid"]),
        with(json!({"exp": null}), "endless", &["jwt-no-expiry"], &["jwt-no-expiry"]),
        with(json!({"exp": now + 7200}), "two-hours", &["jwt-long-lived"], &["jwt-long-lived"]),
        with(json!({"exp": now + 1800}), "half-an-hour", &[], &["jwt-long-lived"]),
        with(json!({"iss": "https://elsewhere.test"}), "other-issuer", &[], &["jwt-issuer"]),
        with(json!({"aud": ["elsewhere"]}), "other-audience", &[], &["jwt-audience"]),
        with(json!({"scope": "items:list"}), "other-scope", &[], &["jwt-scope"]),
        with(json!({"tenant": "south"}), "other-tenant", &[], &["policy-violation"]),
        with(json!({"tenant": null}), "no-tenant", &[], &["policy-violation"]),
        case(
            "signature",
            &[("Signature-Input", &created), ("Signature", &signature)],
            &["weak-signature"],
            &["weak-signature", "policy-violation"],
        ),
        case(
            "forwarded",
            &[("X-Forwarded-Client-Cert", &certificate)],
            &["untrusted-forwarded-certificate", "unauthenticated-call"],
            &["untrusted-forwarded-certificate", "unauthenticated-call"],
        ),
        Case {
            route: "/cors",
            ..case("cors", &[("Authorization", &sound())], &["cors-on-internal"], &["cors-on-internal"])
        },
        Case { caller: "cart", ..case("stranger", &[("Authorization", &sound())], &[], &["policy-violation"]) },
        Case { caller: "nightly", ..case("waived", &[], &["unauthenticated-call"], &[]) },
        Case { route: "/forbidden", ..case("refused", &[], &[], &[]) },
    ]
}

fn policy() -> String {
    let last = OffsetDateTime::now_utc().date() + Duration::days(30);
    format!(
        r#"
version: 1
routes:
  - name: items
    match: {{path: "/open/{{tenant}}/**"}}
    callers: [web, nightly]
    require:
      proof: jwt
      issuers: ["{ISSUER}"]
      audiences: [{AUDIENCE}]
      scopes: ["items:read"]
      max_lifetime: 15m
      verified: true
    when: claims.tenant == path.tenant
waivers:
  - name: nightly-import
    match: {{source: nightly, path: "/open/**"}}
    rules: [unauthenticated-call]
    owner: team-import@interior.test
    reason: moves to tokens, INT-7
    expires: {last}
"#
    )
}

/// Makes a call and gives its path.
fn call(case: &Case, programs: &Path, service: SocketAddr) -> String {
    let path = format!("{}/{}", case.route, &canary()[..8]);
    let mut command = Command::new(programs.join(case.caller));
    command.args(["--disable", "--silent", "--output", "/dev/null", "--config", "-"]);
    command.arg(format!("http://{service}{path}{}", case.query));
    let headers: Vec<String> = case.headers.iter().map(|header| format!("header = {header:?}\n")).collect();
    feed(command, &headers.concat()).expect("curl starts");
    path
}

#[test]
fn each_rule_is_provoked_and_the_policy_finds_what_it_says() {
    let issuer = Issuer::new().unwrap();
    let directory = TempDir::new().unwrap();
    let folder = |name: &str| {
        let folder = directory.path().join(name);
        fs::create_dir(&folder).unwrap();
        folder
    };
    let (programs, plain_folder, ruled_folder) = (folder("programs"), folder("plain"), folder("ruled"));
    for caller in CALLERS {
        fs::copy(program("curl").unwrap(), programs.join(caller)).unwrap();
    }
    let file = |name: &str, content: String| -> PathBuf {
        let file = directory.path().join(name);
        fs::write(&file, content).unwrap();
        file
    };
    let keys = file("keys.json", issuer.key_set().to_string());
    let issuers = json!([{"issuer": ISSUER, "jwks_file": keys}]);
    let configuration = file("auditor.yaml", format!("jwt:\n  issuers: {issuers}\n"));
    let policy = file("policy.yaml", policy());
    let rig = Rig::start(&SERVICES, &[], &LOOPBACK, None, Path::new(env!("CARGO_BIN_EXE_oracle-client"))).unwrap();

    let arguments = ["--config", configuration.to_str().unwrap(), "--policy", policy.to_str().unwrap()];
    let recording = directory.path().join("calls.auditor");
    let record = ["--record", recording.to_str().unwrap(), "--record-claim", "tenant"];
    let mut plain = Auditor::watch(&plain_folder, &[&arguments[..2], &record].concat()).unwrap();
    let mut ruled = Auditor::watch(&ruled_folder, &arguments).unwrap();
    let mut made: Vec<(ServerKind, Case, String)> = Vec::new();
    for server in rig.servers() {
        for case in cases(&issuer) {
            let path = call(&case, &programs, server.sockets()[0]);
            made.push((server.kind(), case, path));
        }
    }
    for (auditor, name) in [(&mut plain, "without the policy"), (&mut ruled, "under the policy")] {
        let all_there = |records: &[Value]| made.iter().all(|(_, _, path)| of(records, path).next().is_some());
        let arrived = auditor.wait_until(PATIENCE, all_there);
        arrived.unwrap_or_else(|error| panic!("{name}: {error:#}\n{}", auditor.log()));
    }
    let ruled = ruled.stop().unwrap();
    let plain = plain.stop().unwrap();
    // Recorded without the policy: the claim that it asks for was named.
    let mut replay = command(["replay", "--output", "jsonl"].iter().chain(&arguments)).unwrap();
    replay.arg(&recording);
    let (code, replayed, said) = run_to_end(replay, directory.path()).unwrap();
    assert_eq!(code, Some(0), "{said}");
    let replayed: Vec<Value> = replayed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let wrong = [
        wrong(&made, &plain.records, "without the policy", |case| case.plain),
        wrong(&made, &ruled.records, "under the policy", |case| case.ruled),
        wrong(&made, &replayed, "replayed under the policy", |case| case.ruled),
    ]
    .concat();
    assert!(wrong.is_empty(), "{} of {} are wrong:\n{}", wrong.len(), 3 * made.len(), wrong.join("\n"));
}

/// Records of the calls to a path.
fn of<'a>(records: &'a [Value], path: &'a str) -> impl Iterator<Item = &'a Value> {
    records.iter().filter(move |record| record["request"]["path"] == path)
}

/// The calls of which something else is said than was written down.
fn wrong(
    made: &[(ServerKind, Case, String)],
    records: &[Value],
    how: &str,
    expected: impl Fn(&Case) -> &'static [&'static str],
) -> Vec<String> {
    let of_call = |(service, case, path): &(ServerKind, Case, String)| {
        let expected: BTreeSet<&str> = expected(case).iter().copied().collect();
        let found: Vec<BTreeSet<&str>> = of(records, path).map(rules).collect();
        let records: Vec<&Value> = of(records, path).collect();
        (found != [expected.clone()])
            .then(|| format!("{how}, {} to {service:?}: expected {expected:?}\n{records:#?}", case.name))
    };
    made.iter().filter_map(of_call).collect()
}

fn rules(record: &Value) -> BTreeSet<&str> {
    record["findings"].as_array().into_iter().flatten().filter_map(|finding| finding["rule"].as_str()).collect()
}
