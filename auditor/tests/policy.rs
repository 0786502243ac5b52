//! Policy files as people meet them: what is wrong is said with line, reason and remedy; what is right is shown, also against
//! recorded traffic. The example, its schema and the parser agree.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn run(arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_auditor"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("AUDITOR_")) {
        command.env_remove(name);
    }
    let output = command.args(arguments).env("NO_COLOR", "1").stdin(Stdio::null()).output().expect("the binary runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("not killed"), text(output.stdout), text(output.stderr))
}

/// Checks the text of a policy; what is said without the directory in front.
fn check(text: impl AsRef<[u8]>) -> (i32, String, String) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("policy.yaml");
    fs::write(&file, text).expect("written");
    let (code, stdout, stderr) = run(&["check", "--policy", file.to_str().expect("UTF-8")]);
    (code, stdout, stderr.rsplit_once("policy.yaml").map_or(stderr.clone(), |(_, said)| said.trim_end().to_owned()))
}

/// Broken policies, and what is said of each behind the file's name.
const BROKEN: [(&str, &str); 25] = [
    ("routes: []\n", ": there is no version; write `version: 1` at the top"),
    ("version: 2\n", ":1:10: version `2` is not known; write `version: 1`, or take a newer auditor"),
    ("version: 1\nroute: []\n", ":2:1: unknown key `route`; did you mean `routes`?"),
    ("version: 1\nroutes:\n  - match: {path: /a}\n", ":3:5: the route has no name; write one, such as `name: orders`"),
    (
        "version: 1\nroutes:\n  - name: a\n  - name: b\n  - name: a\n",
        ":5:1: two routes are named `a`; give each a name of its own",
    ),
    (
        "version: 1\nroutes:\n  - name: a\n    match:\n      path: /a/**/b\n",
        ":5:13: match.path: `/a/**/b`: `**` stands for the rest and can only come last; use `*` for one segment",
    ),
    (
        "version: 1\nroutes:\n  - name: a\n    match: {methods: [get]}\n",
        ":4:23: match.methods: `get` is not a method; write it in capital letters, such as GET",
    ),
    (
        "version: 1\nroutes:\n  - name: a\n    require: {proof: token}\n",
        ":4:22: require.proof: `token` is no proof; write one of mtls, jwt, signature, any",
    ),
    (
        "version: 1\nroutes:\n  - name: a\n    require:\n      proof: mtls\n      issuers: [x]\n",
        ":5:14: require: only a token has issuer, audience, scopes and a signature to verify; add `jwt` to require.proof",
    ),
    (
        "version: 1\nroutes:\n  - name: a\n    severities: {static-api-keys: low}\n",
        ":4:18: unknown rule `static-api-keys`; did you mean `static-api-key`?",
    ),
    (
        "version: 1\nroutes:\n  - name: a\n    severity: bad\n",
        ":4:15: severity: `bad` is none of info, low, medium, high, critical",
    ),
    (
        "version: 1\nroutes:\n  - name: a\n    when: 'request.methd == \"GET\"'\n",
        ":4:12: when: `request` has no `methd`; did you mean `request.method`?",
    ),
    (
        "version: 1\nroutes:\n  - name: a\n    when: true && clams.sub == \"x\"\n",
        ":4:19: when: unknown variable `clams`; did you mean `claims`?",
    ),
    (
        "version: 1\nroutes:\n  - name: a\n    when: |\n      request.method == \"GET\"\n      && path.tenant == claims.tenant\n",
        ":6:10: when: `path` has no `tenant`; the route's path captures nothing; write a segment such as {tenant} in match.path",
    ),
    (
        "version: 1\nroutes:\n  - name: a\n    when: request.method\n",
        ":4:11: when: the result is text, not a truth value; write a comparison, such as `claims.tenant == path.tenant`",
    ),
    (
        "version: 1\nroutes:\n  - name: a\n    when: claims.aud == \"orders\"\n",
        ":4:11: when: a list of texts is compared with text; ask whether it is in the list: `\"orders\" in claims.aud`",
    ),
    (
        "version: 1\nroutes:\n  - name: a\n    when: request.path.matches(\"^/a\")\n",
        ":4:11: when: unknown function `matches`; regular expressions cost too much on each call; use startsWith, endsWith or contains",
    ),
    (
        "version: 1\nroutes:\n  - name: a\n    when: claims.realm_access.roles == \"x\"\n",
        ":4:11: when: `roles` is looked for inside a claim; of claims only text, numbers, truth values and lists of texts are read",
    ),
    ("version: 1\nroutes:\n  - name: a\n    when: request.method ==\n", ":4:"),
    (
        "version: 1\nroutes:\n  - name: a\n    when: claims.a.exists(a, claims.b.exists(b, claims.c.exists(c, claims.d.exists(d, a == d))))\n",
        ":4:",
    ),
    (
        "version: 1\nwaivers:\n  - name: a\n    match: {path: /a}\n    reason: x\n    expires: 2026-12-31\n",
        ":3:5: waiver `a` has no owner; write who and why, such as `owner: team-billing@example.com`",
    ),
    (
        "version: 1\nwaivers:\n  - name: a\n    match: {path: /a}\n    owner: me\n    reason: x\n",
        ":3:5: waiver `a` has no expiry; write its last day, at most ",
    ),
    (
        "version: 1\nwaivers:\n  - name: a\n    match: {path: /a}\n    owner: me\n    reason: x\n    expires: 2999-01-01\n",
        ":7:14: expires: 2999-01-01 is more than 366 days ahead; write at most ",
    ),
    (
        "version: 1\nwaivers:\n  - name: a\n    owner: me\n    reason: x\n    expires: 2026-12-31\n",
        ":3:5: waiver `a` matches everything; say what it is for: `match: {destination: ..., path: ...}`",
    ),
    (
        "version: 1\nwaivers:\n  - name: a\n    match: {path: /a}\n    owner: me\n    reason: \" \"\n    expires: soon\n",
        ":6:13: reason: is blank; write a text",
    ),
];

/// Files that are no policy by their form, and what is said of each behind the file's name.
const MISSHAPEN: [(&[u8], &str); 22] = [
    (b"", ": there is no version; write `version: 1`"),
    (b"# nothing\n", ": there is no version; write `version: 1`"),
    (b"version: 1\nroutes:\n\t- name: a\n", ":3:2: a tab stands where YAML takes blanks alone; indent with blanks"),
    (b"version: 1\nroutes:\n  - name: a\n\t  severity: low\n", ":3:11: a tab stands"),
    (b"version: 1\nroutes:\n  - name: a\n   severity: low\n", ":4:4: this line stands further left or right"),
    (b"version: 1\nversion: 1\n", ":2:1: the key `version` is there twice; keep one of them"),
    (b"version: 1\nroutes:\n  - name: a\n    name: b\n", ":4:5: the key `name` is there twice; keep one of them"),
    (b"version: 1\nroutes: {a: b}\n", ":2:9: a list is expected here; write it as `[one, two]`"),
    (b"version: 1\nroutes:\n  - a\n", ":3:5: keys with their values are expected here; write `key: value`"),
    (b"version: 1\nroutes:\n  - name: [a]\n", ":3:11: one text is expected here, and this is a list or has keys; "),
    (b"version: 1\nroutes:\n  - name: a\n    require: {verified: maybe}\n", ":4:25: this is neither true nor false; "),
    (b"version: 1\nroutes:\n  - name: a\n    callers: [*]\n", ":4:"),
    (b"version: 1\nroutes: *all\n", ":2:9: there is no anchor of this name; write out what"),
    (b"version: 1\nroutes: &all\n  - *all\n", ":3:5: an anchor stands inside of itself; write out"),
    (
        b"version: 1\nroutes:\n  - &a {name: a}\n  - {<<: *a}\n",
        ":4:6: merge keys (`<<`) are not taken; write the keys out",
    ),
    (b"version: 1\n---\nversion: 1\n", ":2:1: there is more than one YAML document; remove the lines"),
    (b"version: 1\nroutes:\n  - name: \"a\n", ":4:1: a quote is opened and not closed"),
    (b"\xff\xfev\0e\0r\0s\0", ": is not UTF-8 text (at byte 0); save it as UTF-8"),
    (b"\x7fELF\x02\x01\x01\0\0", ":1:1: unexpected character"),
    (b"version: 1\nroutes:\n  - name: a\n    when: ''\n", ":4:12: when: the expression is empty; write one"),
    (
        b"version: 1\nroutes:\n  - name: a\n    when: (request.method == 'GET'\n",
        ":4:35: when: the expression ends too early; ",
    ),
    (
        b"version: 1\nroutes:\n  - name: a\n    when: request.method == 'GET\n",
        ":4:29: when: the expression cannot be read from '",
    ),
];

#[test]
fn files_of_another_form_are_told_what_to_write() {
    for (bytes, expected) in MISSHAPEN {
        let (code, stdout, said) = check(bytes);
        assert_eq!((code, stdout.as_str()), (2, ""), "{said}");
        assert!(said.starts_with(expected), "{}expected {expected}\nactual   {said}", String::from_utf8_lossy(bytes));
        assert!(said.contains("; ") && said.lines().count() == 1, "{said}");
    }
}

/// A chain of anchors, each nine times the one before it.
fn bomb(anchors: usize) -> String {
    let mut text = String::from("version: 1\nroutes:\n  - name: a\n    callers: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for at in 1..=anchors {
        text += &format!("  - name: a{at}\n    callers: &a{at} [{}]\n", vec![format!("*a{}", at - 1); 9].join(", "));
    }
    text
}

#[test]
fn what_is_no_file_to_be_read_is_refused_without_waiting() {
    let (code, _, said) = check(bomb(9));
    assert!(code == 2 && said.contains("; ") && said.len() < 300, "{said}");
    let directory = tempfile::tempdir().expect("a directory");
    let pipe = directory.path().join("policy.yaml");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("a named pipe");
    // Nobody writes to it.
    for (path, expected) in [
        (pipe.as_path(), "policy.yaml: there is no version; write `version: 1`"),
        (directory.path(), ": is a directory; name a YAML file"),
        (Path::new("/dev/zero"), "/dev/zero: is larger than 1MiB; "),
        (Path::new("/dev/null"), "/dev/null: there is no version; "),
    ] {
        let (code, stdout, said) = run(&["check", "--policy", path.to_str().expect("UTF-8")]);
        assert!(code == 2 && stdout.is_empty() && said.contains(expected), "{}: {said}", path.display());
    }
}

#[test]
fn broken_policies_are_told_with_line_reason_and_remedy() {
    for (text, expected) in BROKEN {
        let (code, stdout, said) = check(text);
        assert_eq!((code, stdout.as_str()), (2, ""), "{text}\n{said}");
        assert!(said.starts_with(expected), "{text}expected {expected}\nactual   {said}");
        assert!(said.contains("; ") || said.contains("none of"), "no remedy: {said}");
    }
}

/// The example of the documentation, with dates that hold whenever the test runs.
fn example() -> String {
    fs::read_to_string(root().join("docs/policy.example.yaml")).expect("the example is there")
}

#[test]
fn example_schema_and_parser_agree() {
    let (code, stdout, said) = check(example());
    assert_eq!(code, 0, "{said}");
    assert!(stdout.contains("#   orders\n") && stdout.contains("#   builtin:health: GET, HEAD /health/**"), "{stdout}");
    let schema: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(root().join("docs/policy.schema.json")).expect("there"))
            .expect("JSON");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let instance: serde_json::Value = serde_saphyr::from_str(&example()).expect("YAML");
    let errors: Vec<String> = validator.iter_errors(&instance).map(|error| error.to_string()).collect();
    assert_eq!(errors, [""; 0], "the example by the schema");
    // Every key of the schema is one of the parser's, and the other way round.
    let defs = &schema["$defs"];
    for (path, at) in [
        (&schema["properties"], "version: 1\nxx: 1\n"),
        (&defs["route"]["properties"], "version: 1\nroutes:\n  - xx: 1\n"),
        (&defs["match"]["properties"], "version: 1\nroutes:\n  - match: {xx: 1}\n"),
        (&defs["require"]["properties"], "version: 1\nroutes:\n  - require: {xx: 1}\n"),
        (&defs["waiver"]["properties"], "version: 1\nwaivers:\n  - xx: 1\n"),
    ] {
        let (_, _, said) = check(at);
        let (_, keys) = said.split_once("keys here are ").unwrap_or_else(|| panic!("{said}"));
        let mut keys: Vec<&str> = keys.split(", ").collect();
        let mut known: Vec<&str> = path.as_object().expect("properties").keys().map(String::as_str).collect();
        keys.sort_unstable();
        known.sort_unstable();
        assert_eq!(keys, known);
    }
}

#[test]
fn the_demo_has_a_policy_that_fits_it() {
    let policy = root().join("tests/demo/policy.yaml");
    let capture = root().join("tests/captures/demo.auditor");
    let (policy, capture) = (policy.to_str().expect("UTF-8"), capture.to_str().expect("UTF-8"));
    let (code, stdout, stderr) = run(&["check", policy, "--replay", capture]);
    assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");
    let wide: Vec<&str> = stdout.lines().filter(|line| line.chars().count() > 80).collect();
    assert_eq!(wide, [""; 0], "lines of more than 80 columns");
    let golden = root().join("tests/golden/demo-policy.txt");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&golden, &stdout).expect("written");
    }
    assert_eq!(stdout, fs::read_to_string(&golden).expect("there; BLESS=1 writes it"));
    let (_, same, _) = run(&["check", policy, "--replay", capture, "--against", policy]);
    assert!(same.ends_with("Nothing.\n"), "{same}");
}

#[test]
fn check_reads_what_flags_name() {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).expect("written");
        path.to_str().expect("UTF-8").to_owned()
    };
    let policy = write("policy.yaml", "version: 1\nroutes:\n  - name: orders\n");
    let config = write("auditor.yaml", &format!("policy: {policy}\njwt: {{max_lifetime: 7m}}\n"));
    let broken = write("broken.yaml", "jwt: {max_lifetme: 7m}\n");
    let (code, stdout, _) = run(&["check", "--config", &config]);
    assert!(code == 0 && stdout.contains("max_lifetime: 7m") && stdout.contains("#   orders"), "{stdout}");
    let (code, stdout, _) = run(&["check", &policy, "--config", &config]);
    assert!(code == 0 && stdout.contains("max_lifetime: 7m") && stdout.contains("#   orders"), "{stdout}");
    let (code, _, stderr) = run(&["check", &policy, "--config", &broken]);
    assert!(code == 2 && stderr.contains("broken.yaml:1:7"), "{stderr}");
    let (code, _, stderr) = run(&["check", &config, "--config", &broken]);
    assert!(code == 2 && stderr.contains("is a configuration, and --config names another; name one"), "{stderr}");
    let (code, _, stderr) = run(&["check"]);
    assert!(code == 2 && stderr.contains("required"), "{stderr}");
    let plain = write("plain.yaml", "log: {level: warn}\n");
    let (code, stdout, _) = run(&["check", &plain]);
    assert!(
        code == 0 && stdout.starts_with("# no policy; routes:\n#   builtin:health: GET, HEAD /health/**"),
        "{stdout}"
    );
    let missing = Path::new(&policy).with_file_name("none.yaml");
    let (code, _, stderr) = run(&["check", "--policy", missing.to_str().expect("UTF-8")]);
    assert!(code == 2 && stderr.contains("check the path, or leave out --policy to judge without one"), "{stderr}");
}
