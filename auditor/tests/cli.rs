//! The built binary as people and scripts meet it: what it prints where, with which exit code.

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

fn auditor(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_auditor"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("AUDITOR_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> (i32, String, String) {
    outcome(&auditor(arguments).output().expect("the binary runs"))
}

fn outcome(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    (output.status.code().expect("not killed"), text(&output.stdout), text(&output.stderr))
}

/// Writes a file into a directory and gives its path.
fn file(directory: &Path, name: &str, content: &[u8]) -> String {
    let path = directory.join(name);
    fs::write(&path, content).expect("written");
    path.to_str().expect("UTF-8").to_owned()
}

/// A pcap file of raw IPv4 packets: one connection from 10.0.0.1 to 10.0.0.2:80.
struct Pcap {
    bytes: Vec<u8>,
    client: u32,
    server: u32,
    seconds: u32,
}

impl Pcap {
    fn new() -> Self {
        let mut bytes = Vec::new();
        for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65535, 101] {
            bytes.extend(word.to_le_bytes());
        }
        let mut pcap = Self { bytes, client: 1000, server: 2000, seconds: 1_700_000_000 };
        pcap.packet(true, 0x02, b"");
        pcap.client += 1;
        pcap.packet(false, 0x12, b"");
        pcap.server += 1;
        pcap
    }

    fn request(&mut self, text: &str) -> &mut Self {
        self.packet(true, 0x18, text.as_bytes());
        self.client += u32::try_from(text.len()).expect("short");
        self
    }

    fn response(&mut self, text: &str) -> &mut Self {
        self.packet(false, 0x18, text.as_bytes());
        self.server += u32::try_from(text.len()).expect("short");
        self
    }

    fn end(&mut self) -> Vec<u8> {
        self.packet(true, 0x11, b"");
        self.packet(false, 0x11, b"");
        self.bytes.clone()
    }

    fn packet(&mut self, from_client: bool, flags: u8, payload: &[u8]) {
        let total = u16::try_from(40 + payload.len()).expect("short");
        let (client, server) = (([10, 0, 0, 1], 50000_u16), ([10, 0, 0, 2], 80_u16));
        let (from, to) = if from_client { (client, server) } else { (server, client) };
        let sequence = if from_client { self.client } else { self.server };
        let mut packet = vec![0x45, 0];
        packet.extend(total.to_be_bytes());
        packet.extend([0, 0, 0, 0, 64, 6, 0, 0]);
        packet.extend(from.0);
        packet.extend(to.0);
        packet.extend(from.1.to_be_bytes());
        packet.extend(to.1.to_be_bytes());
        packet.extend(sequence.to_be_bytes());
        packet.extend([0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        packet.extend(payload);
        self.seconds += 1;
        let length = u32::from(total);
        for word in [self.seconds, 0, length, length] {
            self.bytes.extend(word.to_le_bytes());
        }
        self.bytes.extend(packet);
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

fn two_calls() -> Vec<u8> {
    Pcap::new()
        .request("GET /items?page=1 HTTP/1.1\r\nHost: shop\r\n\r\n")
        .response(OK)
        .request("GET /secret HTTP/1.1\r\nHost: shop\r\nAuthorization: Basic YWxpY2U6aHVudGVyMg==\r\n\r\n")
        .response("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
        .end()
}

fn records(stdout: &str) -> Vec<serde_json::Value> {
    stdout.lines().map(|line| serde_json::from_str(line).expect("a record a line")).collect()
}

#[test]
fn replays_a_capture_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let capture = file(directory.path(), "two.pcap", &two_calls());
    let (code, stdout, stderr) = run(&["replay", "--output", "jsonl", &capture]);
    assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");
    let records = records(&stdout);
    assert_eq!(records.len(), 2, "{stdout}");
    assert_eq!(records[0]["request"]["path"], "/items");
    assert_eq!(records[0]["source"]["address"], "10.0.0.1");
    assert_eq!(records[0]["destination"]["port"], 80);
    assert_eq!(records[0]["verdict"], "unauthenticated");
    assert_eq!(records[0]["outcome"], "accepted");
    assert_eq!(records[0]["findings"][0]["rule"], "unauthenticated-call");
    assert_eq!(records[1]["verdict"], "weak");
    assert_eq!(records[1]["outcome"], "refused");
    assert_eq!(records[1]["credentials"][0]["kind"], "basic");
    assert!(!stdout.contains("YWxpY2U6aHVudGVyMg") && !stdout.contains("hunter2"), "{stdout}");
}

#[test]
fn replays_to_people() {
    let directory = tempfile::tempdir().expect("a directory");
    let capture = file(directory.path(), "two.pcap", &two_calls());
    for (output, expected) in [
        ("text", vec!["/items", "/secret", "unauthenticated"]),
        ("report", vec!["unauthenticated-call", "10.0.0.2"]),
        ("markdown", vec!["# ", "unauthenticated-call"]),
    ] {
        let (code, stdout, stderr) = run(&["replay", "--output", output, &capture]);
        assert_eq!((code, stderr.as_str()), (0, ""), "{output}");
        assert!(!stdout.contains('\u{1b}'), "{output}: escapes in a pipe\n{stdout}");
        for word in expected {
            assert!(stdout.contains(word), "{output}: no {word:?} in\n{stdout}");
        }
    }
}

#[test]
fn replays_standard_input() {
    let mut child = auditor(&["replay", "-o", "jsonl", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    child.stdin.take().expect("a pipe").write_all(&two_calls()).expect("written");
    let (code, stdout, stderr) = outcome(&child.wait_with_output().expect("ends"));
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert_eq!(records(&stdout).len(), 2);
}

#[test]
fn only_internal_calls_are_judged() {
    let directory = tempfile::tempdir().expect("a directory");
    let capture = file(directory.path(), "two.pcap", &two_calls());
    let (code, stdout, _) = run(&["replay", "-o", "jsonl", "--internal-network", "192.168.0.0/16", &capture]);
    assert_eq!((code, stdout.as_str()), (0, ""));
    let (_, stdout, _) = run(&["replay", "-o", "jsonl", "--internal-network", "0.0.0.0/0", &capture]);
    assert_eq!(records(&stdout).len(), 2);
}

#[test]
fn rules_can_be_changed() {
    let directory = tempfile::tempdir().expect("a directory");
    let capture = file(directory.path(), "two.pcap", &two_calls());
    let text = b"rules:\n  unauthenticated-call: {severity: low}\n  basic-credential: {enabled: false}\n  plaintext-credential: {enabled: false}\n";
    let config = file(directory.path(), "auditor.yaml", text);
    let (code, stdout, stderr) = run(&["replay", "-o", "jsonl", "--config", &config, &capture]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    let records = records(&stdout);
    assert_eq!(records[0]["findings"][0]["severity"], "low");
    assert_eq!(records[1]["findings"].as_array().map(Vec::len), Some(0), "{stdout}");
    assert_eq!(records[1]["verdict"], "authenticated", "no rule that is looked at is against it");
}

#[test]
fn names_of_credentials_can_be_added() {
    let directory = tempfile::tempdir().expect("a directory");
    let calls = Pcap::new()
        .request("GET /a HTTP/1.1\r\nHost: shop\r\nX-Shop-Pass: abcdefgh12345\r\nX-Api-Key: abcdefgh12345\r\n\r\n")
        .response(OK)
        .end();
    let capture = file(directory.path(), "a.pcap", &calls);
    let carriers = |flags: &[&str]| {
        let arguments = [&["replay", "-o", "jsonl", &capture], flags].concat();
        let records = records(&run(&arguments).1);
        let credentials = records[0]["credentials"].as_array().expect("a list").clone();
        credentials
            .iter()
            .map(|credential| credential["carrier"].as_str().expect("text").to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(carriers(&[]), ["header:x-api-key"]);
    assert_eq!(carriers(&["--api-key-header", "X-Shop-Pass"]), ["header:x-shop-pass", "header:x-api-key"]);
}

#[test]
fn fingerprints_are_comparable_under_one_key_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let capture = file(directory.path(), "two.pcap", &two_calls());
    let key = directory.path().join("key");
    let fingerprint = || {
        let key = key.to_str().expect("UTF-8");
        let (_, stdout, _) = run(&["replay", "-o", "jsonl", "--fingerprint-key-file", key, &capture]);
        records(&stdout)[1]["credentials"][0]["fingerprint"].as_str().expect("text").to_owned()
    };
    assert_eq!(fingerprint(), fingerprint());
}

#[test]
fn what_precedes_damage_is_judged() {
    let directory = tempfile::tempdir().expect("a directory");
    let whole = two_calls();
    let capture = file(directory.path(), "cut.pcap", &whole[..whole.len() - 100]);
    let (code, stdout, stderr) = run(&["replay", "-o", "jsonl", &capture]);
    assert_eq!(code, 2, "{stderr}");
    assert_eq!(records(&stdout).len(), 2, "{stdout}");
    assert!(
        stderr.starts_with("error: ") && stderr.contains("cut.pcap: at byte ") && stderr.contains("the file ends"),
        "{stderr}"
    );
}

#[test]
fn what_cannot_be_replayed_is_said() {
    let directory = tempfile::tempdir().expect("a directory");
    let sparse = directory.path().join("sparse.pcap");
    fs::File::create(&sparse).and_then(|file| file.set_len(10 << 30)).expect("a sparse file");
    let directory_path = directory.path().to_str().expect("UTF-8");
    for (path, expected) in [
        (directory_path.to_owned(), "is a directory; name a capture file in it"),
        (
            format!("{directory_path}/none.pcap"),
            "none.pcap: cannot be read (no such file or directory); check the path",
        ),
        (sparse.to_str().expect("UTF-8").to_owned(), "sparse.pcap: is no capture file; name a pcap or pcapng file"),
        (file(directory.path(), "empty.pcap", b""), "empty.pcap: is empty; name a pcap"),
        (
            file(directory.path(), "a.pcap.gz", b"\x1f\x8b\x08\0\0\0\0\0"),
            "is compressed with gzip: unpack it with gunzip first",
        ),
        (file(directory.path(), "text", b"GET / HTTP/1.1\r\n\r\n"), "is no capture file"),
        (file(directory.path(), "half", &two_calls()[..10]), "the file ends 10 bytes into a record of 24 bytes"),
        (file(directory.path(), "recording", b"AUDITREC\x01\0\0\0garbage"), "at byte 12, after 0 entries: "),
    ] {
        let (code, stdout, stderr) = run(&["replay", &path]);
        assert_eq!((code, stdout.as_str()), (2, ""), "{path}");
        assert!(stderr.starts_with("error: ") && stderr.contains(expected), "expected {expected}\nactual   {stderr}");
    }
}

#[test]
fn usage_errors_are_2() {
    for arguments in [
        &["replay"][..],
        &["frobnicate"],
        &["replay", "--output", "xml", "x"],
        &["watch", "--for", "5 parsecs"],
        &["watch", "--ring-bytes", "3MiB"],
        &["run", "--listen", "9477"],
        &["replay", "--internal-network", "10.0.0.0/40", "x"],
        &["completions", "tcsh"],
    ] {
        let (code, stdout, stderr) = run(arguments);
        assert_eq!((code, stdout.as_str()), (2, ""), "{arguments:?}");
        assert!(stderr.starts_with("error: "), "{arguments:?}: {stderr}");
    }
}

#[test]
fn checks_a_configuration_and_prints_what_is_in_force() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = file(
        directory.path(),
        "auditor.yaml",
        b"listen: 127.0.0.1:1\ncapture: {ring_bytes: 16MiB, poll_interval: 10ms}\n",
    );
    let in_force = |flags: &[&str], environment: Option<(&str, &str)>| {
        let mut command = auditor(&["check", &config]);
        command.args(flags).envs(environment);
        let (code, stdout, stderr) = outcome(&command.output().expect("runs"));
        assert_eq!((code, stderr.as_str()), (0, ""));
        stdout.lines().find(|line| line.contains("ring_bytes")).expect("printed").trim().to_owned()
    };
    let environment = Some(("AUDITOR_RING_BYTES", "32MiB"));
    assert_eq!(in_force(&[], None), "ring_bytes: 16MiB", "the file wins over the default");
    assert_eq!(in_force(&[], environment), "ring_bytes: 32MiB", "the environment wins over the file");
    assert_eq!(in_force(&["--ring-bytes", "64MiB"], environment), "ring_bytes: 64MiB", "the flag wins over both");

    let broken = file(directory.path(), "broken.yaml", b"capture:\n  ring_byte: 8MiB\n");
    let (code, stdout, stderr) = run(&["check", &broken]);
    assert_eq!((code, stdout.as_str()), (2, ""));
    assert!(stderr.ends_with("broken.yaml:2:3: unknown key `ring_byte`; did you mean `ring_bytes`?\n"), "{stderr}");
    let (code, _, stderr) = run(&["replay", "--config", &broken, "x"]);
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("broken.yaml:2:3"), "{stderr}");
}

#[test]
fn trust_bundles_are_read_by_check_as_by_every_other_command() {
    let directory = tempfile::tempdir().expect("a directory");
    let pem = rcgen::generate_simple_self_signed(["ca".to_owned()]).expect("a certificate").cert.pem();
    let bundle = file(directory.path(), "ca.pem", pem.as_bytes());
    let other = file(directory.path(), "other.pem", format!("{pem}{pem}").as_bytes());
    let config = format!("trust:\n  bundles:\n    - {bundle}\n  domains: [prod.example]\n");
    let config = file(directory.path(), "auditor.yaml", config.as_bytes());
    let in_force = |flags: &[&str], environment: &[(&str, &str)]| {
        let mut command = auditor(&["check", &config]);
        command.args(flags).envs(environment.iter().copied());
        let (code, stdout, stderr) = outcome(&command.output().expect("runs"));
        assert_eq!((code, stderr.as_str()), (0, ""));
        let lines =
            stdout.lines().skip_while(|line| *line != "trust:").skip(1).take_while(|line| line.starts_with(' '));
        lines.map(|line| line.trim().to_owned()).collect::<Vec<_>>()
    };
    let one = format!("# \"{bundle}\": 1 certificates");
    let first = format!("- \"{bundle}\"");
    let expected = [&one, "bundles:", &first, "domains:", "- \"prod.example\"", "expiry_warning: 7d"];
    assert_eq!(in_force(&[], &[]), expected);
    let environment = [("AUDITOR_TRUST_DOMAINS", "a.example,b.example"), ("AUDITOR_EXPIRY_WARNING", "14d")];
    let lines = in_force(&["--trust-bundle", &bundle, "--trust-bundle", &other], &environment);
    assert!(lines.contains(&format!("# \"{other}\": 2 certificates")), "{lines:?}");
    assert!(
        lines.contains(&"- \"b.example\"".to_owned()) && lines.contains(&"expiry_warning: 14d".to_owned()),
        "{lines:?}"
    );

    let none = file(directory.path(), "none.pem", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    let (code, _, stderr) = run(&["check", &config, "--trust-bundle", &none]);
    assert_eq!(code, 2, "{stderr}");
    assert!(
        stderr.contains("none.pem` holds no certificate; name a PEM file with") && !stderr.contains("AAAA"),
        "{stderr}"
    );
    let broken = file(directory.path(), "broken.yaml", format!("trust: {{bundles: [{none}]}}\n").as_bytes());
    for arguments in [vec!["check", &broken], vec!["replay", "--config", &broken, "x"]] {
        let (code, _, stderr) = run(&arguments);
        assert_eq!(code, 2, "{stderr}");
        assert!(stderr.contains("broken.yaml:1:19: trust.bundles: `"), "{stderr}");
    }
}

#[test]
fn a_wrong_environment_is_named() {
    let mut command = auditor(&["watch"]);
    let (code, _, stderr) = outcome(&command.env("AUDITOR_RING_BYTES", "lots").output().expect("runs"));
    assert_eq!(code, 2);
    assert!(stderr.contains("--ring-bytes") && stderr.contains("`lots` is not a size"), "{stderr}");
}

#[test]
fn the_example_configuration_is_valid() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/auditor.example.yaml");
    let (code, stdout, stderr) = run(&["check", example]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(stdout.contains("listen: "), "{stdout}");
}

#[test]
fn every_key_flag_and_variable_is_documented() {
    let reference =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md")).expect("there");
    for command in ["run", "watch", "replay", "doctor", "check"] {
        let (_, help, _) = run(&[command, "--help"]);
        let words = help.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'));
        for word in words.filter(|word| word.starts_with("--") && word.len() > 2 || word.starts_with("AUDITOR_")) {
            let known = reference.contains(&format!("`{word}`")) || reference.contains(&format!("`{word} "));
            assert!(
                known || matches!(word, "--help" | "--version"),
                "{command}: {word} is not in docs/configuration.md"
            );
        }
    }
}

#[test]
fn completions_and_the_manual_are_generated() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let (code, stdout, _) = run(&["completions", shell]);
        assert_eq!(code, 0);
        assert!(stdout.len() > 1000 && stdout.contains("replay") && stdout.contains("ring-bytes"), "{shell}");
    }
    let (code, stdout, _) = run(&["man"]);
    assert_eq!(code, 0);
    for part in [".TH auditor 1", ".SH \"AUDITOR REPLAY\"", "ring\\-bytes"] {
        assert!(stdout.contains(part), "no {part}");
    }
}

#[test]
fn rules_are_listed() {
    let (code, stdout, _) = run(&["rules"]);
    assert_eq!(code, 0);
    assert!(
        stdout.lines().any(|line| line.starts_with("unauthenticated-call ") && line.contains(" high ")),
        "{stdout}"
    );
}

#[test]
fn a_rule_is_explained_with_code() {
    let (code, stdout, _) = run(&["rules", "explain", "jwt-no-expiry", "--stack", "go"]);
    assert_eq!(code, 0);
    assert!(stdout.starts_with("jwt-no-expiry (medium): ") && stdout.contains("v.Verify("), "{stdout}");
    let (code, _, stderr) = run(&["rules", "explain", "jwt-no-expirty"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("jwt-no-expiry"), "{stderr}");
}

#[test]
fn doctor_speaks_json_and_its_exit_code_says_whether_capture_works() {
    let (code, stdout, stderr) = run(&["doctor", "--output", "json"]);
    let diagnosis: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
    let works = diagnosis["live_capture"].as_bool().expect("a word");
    assert_eq!(code, if works { 0 } else { 3 }, "{stderr}");
    assert_eq!(diagnosis["reason"].is_null(), works);
    assert!(diagnosis["facts"].as_array().is_some_and(|facts| facts.len() > 5));
    assert_eq!(stderr.is_empty(), works, "{stderr}");
    let (again, text, _) = run(&["doctor"]);
    assert_eq!(again, code);
    assert!(text.contains("Hooks") && text.contains("kernel"), "{text}");
}

#[test]
fn watch_works_where_doctor_says_so_and_ends_with_3_elsewhere() {
    let (expected, _, _) = run(&["doctor"]);
    let (code, stdout, stderr) = run(&["watch", "--for", "10ms", "--output", "report"]);
    assert_eq!(code, expected, "{stderr}");
    assert_eq!(stdout.is_empty(), code != 0, "{stdout}");
    assert_eq!(stderr.lines().any(|line| line.starts_with("error: ")), code != 0, "{stderr}");
}

#[test]
fn a_port_in_use_is_2_before_anything_is_captured() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    let (code, stdout, stderr) = run(&["run", "--listen", &address]);
    assert_eq!((code, stdout.as_str()), (2, ""));
    let expected = format!("error: cannot listen at {address}: address already in use; stop what listens there");
    assert!(stderr.contains(&expected), "{stderr}");
}

#[test]
fn a_closed_pipe_is_quiet() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut many = Pcap::new();
    for _ in 0..2000 {
        many.request("GET /items HTTP/1.1\r\nHost: shop\r\n\r\n").response(OK);
    }
    let capture = file(directory.path(), "many.pcap", &many.end());
    for output in ["jsonl", "text"] {
        let mut child = auditor(&["replay", "-o", output, &capture])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        drop(child.stdout.take());
        let (code, _, stderr) = outcome(&child.wait_with_output().expect("ends"));
        assert_eq!((code, stderr.as_str()), (0, ""), "{output}");
    }
}

#[test]
fn a_full_disk_is_an_error() {
    let directory = tempfile::tempdir().expect("a directory");
    let capture = file(directory.path(), "two.pcap", &two_calls());
    let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
    let output = auditor(&["replay", "-o", "jsonl", &capture]).stdout(full).output().expect("runs");
    let (code, _, stderr) = outcome(&output);
    assert_eq!(code, 2);
    assert!(stderr.contains("cannot write to standard output: no space left on device; "), "{stderr}");
}
