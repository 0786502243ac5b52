use std::{fs, path::Path};

use super::{file::parse, *};
use crate::{
    certificates::sample::Authority,
    credentials::{keys::Algorithm, verify::KeySource},
    kernel::plan::Hook,
};

const RULES: &[&str] = &["unauthenticated-call", "plaintext-credential", "basic-credential"];

fn load(text: &[u8]) -> Result<Config, ConfigError> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("auditor.yaml");
    fs::write(&file, text).expect("the file is written");
    load_path(&file)
}

fn load_path(file: &Path) -> Result<Config, ConfigError> {
    let common = CommonFlags { config: Some(file.to_owned()), ..CommonFlags::default() };
    resolve(&common, &LiveFlags::default(), &ServeFlags::default(), RULES)
}

/// The message without the directory in front of it.
fn message(text: &str) -> String {
    let error = load(text.as_bytes()).expect_err("the configuration is wrong").to_string();
    error.split_once("auditor.yaml").map_or(error.clone(), |(_, tail)| tail.to_owned())
}

#[test]
fn nothing_written_is_the_default() {
    for text in ["", "\n\n", "# only words\n", "{}", "capture:\n", "rules: {}\nlimits:\n"] {
        assert_eq!(load(text.as_bytes()).expect(text), Config::default(), "{text:?}");
    }
}

#[test]
fn reads_every_key() {
    let text = r#"
internal_networks: [10.0.0.0/8, "fd00::/8"]
listen: "[::1]:9500"
tls_plaintext: true
unix_sockets: true
sensitive_sockets: [admin.sock, /run/vault/api.sock]
capture: { hook: kprobe, ring_bytes: 16MiB, request_head_bytes: 8192, response_head_bytes: 2KiB, poll_interval: 10ms }
limits: { connections: 1000, buffered_bytes: 64MiB, series: 500, edges: 50, credentials: 70, findings: 80 }
credentials:
  api_key_headers: [X-Key]
  signature_headers: [X-Signed]
  session_cookies: [sid]
  query_parameters: [token]
  fingerprint_key_file: key
  trusted_proxies: [10.1.0.0/24]
policy: policy.yaml
rules:
  basic-credential: { severity: critical }
  plaintext-credential: { enabled: false }
cross_call: { window: 2h, learning_window: 0s }
route_templates: ["/tenants/{tenant}/orders/{id}"]
governor: { cpu_share: 0.05 }
jwt:
  max_lifetime: 15m
  issuers:
    - { issuer: "https://one.example", jwks_file: KEYS, algorithms: [RS256, EdDSA] }
    - { issuer: "https://two.example", jwks_url: "https://two.example/jwks.json", ca_file: BUNDLE }
record: { claims: [tenant, "https://shop.example/level"] }
trust: { bundles: [BUNDLE], domains: [prod.example, dev.example], expiry_warning: 30d }
log: { level: debug, format: json }
"#;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let bundle = directory.path().join("ca.pem");
    fs::write(&bundle, Authority::new("CA").pem()).expect("written");
    let keys = directory.path().join("keys.json");
    fs::write(&keys, r#"{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}"#).expect("written");
    let text = text.replace("BUNDLE", &format!("{bundle:?}")).replace("KEYS", &format!("{keys:?}"));
    let config = load(text.as_bytes()).expect("valid");
    assert_eq!(config.internal_networks.as_ref().map(Vec::len), Some(2));
    assert_eq!(config.listen.to_string(), "[::1]:9500");
    assert!(config.tls_plaintext && config.unix_sockets);
    assert_eq!(config.sensitive_sockets, ["admin.sock", "/run/vault/api.sock"]);
    assert_eq!(config.capture.ring_bytes, 16 << 20);
    assert_eq!(config.capture.request_head_bytes, 8192);
    assert_eq!(config.capture.response_head_bytes, 2048);
    assert_eq!(config.capture.hook, Choice::Only(Hook::Kprobe));
    assert_eq!(config.capture.poll_interval, Duration::from_millis(10));
    let limits =
        Limits { connections: 1000, buffered_bytes: 64 << 20, series: 500, edges: 50, credentials: 70, findings: 80 };
    assert_eq!(config.limits, limits);
    assert_eq!(config.credentials.api_key_headers, ["x-key"]);
    assert_eq!(config.credentials.signature_headers, ["x-signed"]);
    assert_eq!(config.credentials.session_cookies, ["sid"]);
    assert_eq!(config.credentials.query_parameters, ["token"]);
    assert_eq!(config.credentials.fingerprint_key_file, Some("key".into()));
    assert_eq!(config.policy, Some("policy.yaml".into()));
    assert_eq!(config.rules["basic-credential"], RuleConfig { severity: Some(Severity::Critical), enabled: None });
    assert_eq!(config.rules["plaintext-credential"], RuleConfig { severity: None, enabled: Some(false) });
    assert_eq!(config.credentials.trusted_proxies, ["10.1.0.0/24".parse().expect("a network")]);
    assert_eq!(config.cross_call.window, Duration::from_secs(7200));
    assert_eq!(config.cross_call.learning_window, Duration::ZERO);
    let templates: Vec<_> = config.route_templates.iter().map(|template| template.as_str()).collect();
    assert_eq!(templates, ["/tenants/{tenant}/orders/{id}"]);
    assert_eq!(config.cpu_share, Some(0.05));
    assert_eq!(config.jwt.max_lifetime, Duration::from_secs(900));
    let [one, two] = config.jwt.issuers.as_slice() else { panic!("{:?}", config.jwt) };
    assert_eq!((&*one.issuer, &one.source), ("https://one.example", &KeySource::File(keys)));
    assert_eq!(one.algorithms.as_deref(), Some(&[Algorithm::RS256, Algorithm::EdDSA][..]));
    assert_eq!((&*two.issuer, &two.algorithms), ("https://two.example", &None));
    let KeySource::Url { url, trust } = &two.source else { panic!("{two:?}") };
    assert_eq!((&**url, trust.as_ref().map(|trust| &trust.file)), ("https://two.example/jwks.json", Some(&bundle)));
    assert_eq!(config.record_claims, ["tenant", "https://shop.example/level"]);
    assert_eq!(config.trust.bundles.iter().map(|read| (&read.file, read.len())).collect::<Vec<_>>(), [(&bundle, 1)]);
    assert_eq!(config.trust.domains, ["prod.example", "dev.example"]);
    assert_eq!(config.trust.expiry_warning, Duration::from_secs(30 * 24 * 3600));
    assert_eq!(config.log, LogConfig { level: LogLevel::Debug, format: LogFormat::Json });

    let again = load(config.to_string().as_bytes()).expect("what is printed can be read");
    assert_eq!(again, config);
}

#[test]
fn the_printed_default_is_the_default() {
    let printed = Config::default().to_string();
    assert_eq!(load(printed.as_bytes()).expect(&printed), Config::default());
}

#[test]
fn says_where_and_what_was_meant() {
    for (text, expected) in [
        ("capture:\n  ring_byte: 8MiB\n", ":2:3: unknown key `ring_byte`; did you mean `ring_bytes`?"),
        (
            "\n\ncolour: red\n",
            ":3:1: unknown key `colour`; keys here are internal_networks, listen, tls_plaintext, unix_sockets, ",
        ),
        (
            "rules:\n  basic-credentials: {}\n",
            ":2:3: unknown rule `basic-credentials`; did you mean `basic-credential`?",
        ),
        (
            "rules:\n  basic-credential:\n    severity: bad\n",
            ":3:15: rules.basic-credential.severity: `bad` is none of info, ",
        ),
        ("rules:\n  basic-credential: {enable: true}\n", ":2:22: unknown key `enable`; did you mean `enabled`?"),
        (
            "internal_networks:\n  - 10.0.0.0/8\n  - 10.0.0.0/40\n",
            ":3:5: internal_networks: `10.0.0.0/40` is not a network",
        ),
        ("capture: {ring_bytes: 3MiB}\n", ":1:23: capture.ring_bytes: a ring of 3145728 bytes cannot be made"),
        ("listen: 9477\n", ":1:9: listen: `9477` is not an address and a port; write 127.0.0.1:9477"),
        ("log: {level: loud}\n", ":1:14: log.level: `loud` is none of error, warn, info, debug, trace"),
        ("listen: a\nlisten: b\n", ":2:1: the key `listen` is there twice; keep one of them"),
        (
            "trust:\n  bundles:\n    - /nowhere/ca.pem\n",
            ":3:7: trust.bundles: `/nowhere/ca.pem` cannot be read (no such file or directory); name a PEM file",
        ),
        ("trust: {domains: [spiffe://prod]}\n", ":1:19: trust.domains: `spiffe://prod` is not a trust domain; "),
        ("trust: {expiry_warning: soon}\n", ":1:25: trust.expiry_warning: `soon` is not a duration; "),
        ("trust: {bundle: [x]}\n", ":1:9: unknown key `bundle`; did you mean `bundles`?"),
        ("cross_call: {window: 0s}\n", ":1:22: cross_call.window: `0s` is too short"),
        ("route_templates: [orders]\n", ":1:19: route_templates: `orders` is not a route template; "),
        ("jwt: {max_lifetime: 0s}\n", ":1:21: jwt.max_lifetime: a lifetime of zero"),
        (
            "jwt:\n  issuers:\n    - {issuer: a, jwks_file: /nowhere/keys.json}\n",
            ":3:30: jwt.issuers.jwks_file: `/nowhere/keys.json` cannot be read (no such file or directory); name a file",
        ),
        (
            "jwt:\n  issuers:\n    - {issuer: a, jwks_url: 'http://a.example/'}\n",
            ":3:29: jwt.issuers.jwks_url: the URL is not encrypted",
        ),
        ("jwt:\n  issuers:\n    - {issuer: a}\n", ":3:7: jwt.issuers: it takes one of `jwks_file` and `jwks_url`"),
        ("jwt:\n  issuers:\n    - {jwks_url: x}\n", ":3:7: jwt.issuers: `issuer` is missing; "),
        ("jwt:\n  issuers:\n    - {issuer: 'a b'}\n", ":3:16: jwt.issuers.issuer: `a b` is no issuer; "),
        (
            "jwt:\n  issuers:\n    - {issuer: a, jwks_url: 'https://a/', algorithms: [none]}\n",
            ":3:56: jwt.issuers.algorithms: `none` is no algorithm that can be checked; ",
        ),
        (
            "jwt:\n  issuers:\n    - {issuer: a, jwks_url: 'https://a/', algorithms: []}\n",
            ":3:7: jwt.issuers: `algorithms` is empty; ",
        ),
        (
            "jwt:\n  issuers:\n    - {issuer: a, jwks_url: 'https://a/'}\n    - {issuer: a, jwks_url: 'https://b/'}\n",
            ":4:7: jwt.issuers: this issuer is there twice; ",
        ),
        ("jwt:\n  issuers:\n    - {isuer: a}\n", ":3:8: unknown key `isuer`; did you mean `issuer`?"),
        ("record: {claims: [a, 'b c']}\n", ":1:22: record.claims: `b` is not the name of a claim; "),
        ("credentials:\n  trusted_proxies: [proxy]\n", ":2:21: credentials.trusted_proxies: `proxy` is not a network"),
        ("credentials:\n  api_key_headers: ['x y']\n", ":2:21: credentials.api_key_headers: `x` is not a header name"),
    ] {
        let message = message(text);
        assert!(message.starts_with(expected), "{text:?}\nexpected {expected}\nactual   {message}");
    }
}

#[test]
fn recordings_keep_a_bounded_number_of_claims() {
    let with = |count: usize| {
        format!("record:\n  claims:\n{}", (0..count).map(|n| format!("    - c{n}\n")).collect::<String>())
    };
    assert_eq!(load(with(32).as_bytes()).expect("valid").record_claims.len(), 32);
    assert!(message(&with(33)).starts_with(":35:7: record.claims: there are more than 32; "), "{}", message(&with(33)));
}

#[test]
fn wrong_types_and_broken_yaml_have_a_line() {
    for text in [
        "capture: 5\n",
        "internal_networks: 10.0.0.0/8\n",
        "rules: [basic-credential]\n",
        "rules:\n  basic-credential: {enabled: perhaps}\n",
        "listen: {a: b}\n",
        "capture: {ring_bytes: [1]}\n",
        "- a\n- b\n",
        "capture: {ring_bytes: 8MiB\n",
        "a: b: c\n",
        "listen: *nowhere\n",
        "\"unterminated\n",
    ] {
        let message = message(text);
        assert!(message.starts_with(':') && message[1..2].parse::<u8>().is_ok(), "{text:?}: {message}");
        assert!(message.contains("; "), "no remedy for {text:?}: {message}");
        assert_eq!(message.lines().count(), 1, "{text:?}: {message}");
    }
}

#[test]
fn bombs_cost_nothing() {
    let mut laughs = String::from("a: &a [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
    for (name, before) in ('b'..='z').zip('a'..='y') {
        laughs.push_str(&format!("{name}: &{name} [{}]\n", vec![format!("*{before}"); 9].join(", ")));
    }
    for text in [
        laughs,
        "[".repeat(100_000),
        "a: ".repeat(10_000),
        "- ".repeat(100_000),
        "---\n".repeat(100_000),
        format!("internal_networks: [{}]", "10.0.0.0/8, ".repeat(50_000)),
        "? ".repeat(100_000),
        format!("listen: {}", "x".repeat(900_000)),
    ] {
        let error = load(text.as_bytes()).expect_err("refused").to_string();
        assert!(error.len() < 1000, "{error}");
    }
}

#[test]
fn what_is_no_text_file_is_named() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let error = load_path(directory.path()).expect_err("refused").to_string();
    assert!(error.ends_with(": is a directory; name a YAML file"), "{error}");
    let error = load_path(&directory.path().join("none.yaml")).expect_err("refused").to_string();
    assert!(error.contains("none.yaml: cannot be read (no such file or directory); check the path"), "{error}");
    let error = load(b"listen: \xff\xfe").expect_err("refused").to_string();
    assert!(error.contains("is not UTF-8 text (at byte 8); "), "{error}");
    let huge = directory.path().join("huge.yaml");
    fs::File::create(&huge).and_then(|file| file.set_len(10 << 30)).expect("a sparse file");
    let error = load_path(&huge).expect_err("refused").to_string();
    assert!(error.contains("is larger than 1MiB; "), "{error}");
}

#[test]
fn a_flag_wins_over_the_file() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("auditor.yaml");
    fs::write(&file, "capture: {ring_bytes: 16MiB, poll_interval: 10ms}\nlisten: 127.0.0.1:1\n").expect("written");
    let trust_domains = Some(vec!["prod.example".to_owned()]);
    let common = CommonFlags {
        config: Some(file),
        max_series: Some(7),
        trust_domains,
        max_credentials: Some(9),
        learning_window: Some(Duration::ZERO),
        ..CommonFlags::default()
    };
    let live = LiveFlags { ring_bytes: Some(1 << 20), ..LiveFlags::default() };
    let serve = ServeFlags { listen: Some("127.0.0.1:2".parse().expect("an address")), ..ServeFlags::default() };
    let config = resolve(&common, &live, &serve, RULES).expect("valid");
    assert_eq!(config.capture.ring_bytes, 1 << 20);
    assert_eq!(config.capture.poll_interval, Duration::from_millis(10));
    assert_eq!(config.listen.port(), 2);
    assert_eq!((config.limits.series, config.limits.credentials), (7, 9));
    assert_eq!(config.cross_call.learning_window, Duration::ZERO);
    assert_eq!(config.trust.domains, ["prod.example"]);
}

#[test]
fn places_without_a_line_print_the_file_alone() {
    let error = parse(Path::new("x.yaml"), "a: 1\n---\nb: 2\n").expect_err("refused").to_string();
    assert!(error.starts_with("x.yaml"), "{error}");
}

#[test]
fn unix_sockets_are_off_unless_they_are_asked_for() {
    assert!(!Config::default().unix_sockets);
    let with = |flag| {
        let live = LiveFlags { unix_sockets: flag, ..LiveFlags::default() };
        resolve(&CommonFlags::default(), &live, &ServeFlags::default(), &[]).expect("valid").unix_sockets
    };
    assert_eq!([with(None), with(Some(true)), with(Some(false))], [false, true, false]);
    for (text, is_right) in
        [("admin.sock", true), ("/run/a.sock", true), ("@name", true), ("run/a.sock", false), ("/", false), ("", false)]
    {
        assert_eq!(value::unix_socket(text).is_ok(), is_right, "{text}");
    }
}

#[test]
fn tls_plaintext_is_off_unless_it_is_asked_for() {
    assert!(!Config::default().tls_plaintext);
    let with = |flag| {
        let live = LiveFlags { tls_plaintext: flag, ..LiveFlags::default() };
        resolve(&CommonFlags::default(), &live, &ServeFlags::default(), &[]).expect("valid").tls_plaintext
    };
    assert_eq!([with(None), with(Some(true)), with(Some(false))], [false, true, false]);
}
