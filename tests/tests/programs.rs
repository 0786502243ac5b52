//! The programs that the demo and the tests in virtual machines start.

use std::process::Command;

use auditor_tests::process::{PATIENCE, Running, children, output};
use serde_json::Value;

#[test]
fn the_soft_interior_ends_by_itself_and_on_a_signal_with_all_its_processes() {
    for (seconds, signal) in [("1", false), ("600", true)] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_soft-interior"));
        command.args(["--seconds", seconds]);
        let mut interior = Running::start("soft-interior", command).unwrap();
        assert_eq!(interior.expect_line().unwrap(), "ready");
        let services = children(interior.pid());
        assert!(services.len() >= 4, "gateway, two services and the storefront: {services:?}");
        if signal {
            interior.signal(libc::SIGTERM);
        }
        let rounds = interior.expect_line().unwrap();
        assert!(rounds.ends_with(" rounds"), "{rounds}");
        assert!(interior.wait(PATIENCE).unwrap().success());
        let left: Vec<&u32> = services.iter().filter(|pid| std::fs::exists(format!("/proc/{pid}")).unwrap()).collect();
        assert!(left.is_empty(), "still there: {left:?}");
    }
}

#[test]
fn bad_usage_of_the_soft_interior_is_said() {
    let run = Command::new(env!("CARGO_BIN_EXE_soft-interior")).args(["--seconds", "soon"]).output().unwrap();
    assert_eq!(run.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&run.stderr).contains("--seconds soon: not a number"));
}

#[test]
fn the_machine_case_says_what_it_called_over_both_families() {
    let lines = output(Command::new(env!("CARGO_BIN_EXE_vm-case")).arg("8")).unwrap();
    let records: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.len(), 16);
    let count = |verdict: &str| records.iter().filter(|record| record["verdict"] == verdict).count();
    assert_eq!((count("unauthenticated"), count("authenticated"), count("weak")), (8, 4, 4));
    assert_ne!(records[0]["destination"]["port"], records[15]["destination"]["port"]);
}
