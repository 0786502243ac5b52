//! Captures of real clients and servers, replayed to the records they must give. `BLESS=1` rewrites what is expected.

use std::{collections::HashMap, fs, path::PathBuf, process::Command};

fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Records with fingerprints numbered in the order they come: their values belong to a key, which of them are equal does not.
fn records(capture: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_auditor"))
        .args(["replay", "--output", "jsonl"])
        .arg(root().join("tests/captures").join(capture))
        .env_remove("AUDITOR_CONFIG")
        .output()
        .expect("the binary runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), stderr.as_ref()), (Some(0), ""), "{capture}");
    let mut numbers = HashMap::new();
    let mut text = String::new();
    for line in String::from_utf8(output.stdout).expect("UTF-8").lines() {
        let mut record: serde_json::Value = serde_json::from_str(line).expect("a record a line");
        for credential in record["credentials"].as_array_mut().expect("a list") {
            let next = numbers.len() + 1;
            // A client certificate that TLS 1.3 encrypts has none.
            let Some(fingerprint) = credential["fingerprint"].as_str().map(str::to_owned) else { continue };
            credential["fingerprint"] = format!("#{}", numbers.entry(fingerprint).or_insert(next)).into();
        }
        text += &format!("{record}\n");
    }
    text
}

fn check(capture: &str) {
    let actual = records(capture);
    let file = root().join("tests/golden").join(format!("{capture}.jsonl"));
    if std::env::var_os("BLESS").is_some() {
        fs::create_dir_all(file.parent().expect("a folder")).expect("made");
        fs::write(&file, &actual).expect("written");
    }
    let expected = fs::read_to_string(&file).expect("there; BLESS=1 writes it");
    for (number, (actual, expected)) in actual.lines().zip(expected.lines()).enumerate() {
        assert_eq!(actual, expected, "{capture}, record {}", number + 1);
    }
    assert_eq!(actual.lines().count(), expected.lines().count(), "{capture}: records\n{actual}");
}

#[test]
fn nginx_and_curl() {
    check("nginx-curl.pcapng");
}

#[test]
fn linux_cooked_of_any_interface() {
    check("any-cooked.pcap");
}

#[test]
fn chunked_split_and_pipelined() {
    check("python-split.pcap");
}

#[test]
fn tls_is_recognised() {
    check("tls.pcapng");
}

#[test]
fn http2_is_recognised() {
    check("http2.pcapng");
}

#[test]
fn cut_by_the_snapshot_length() {
    check("snaplen.pcapng");
}
