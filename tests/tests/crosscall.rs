//! The rules across calls on real programs: each is provoked by calls that are made for it, and nothing else is found of the
//! calls of a control group.

use std::{collections::BTreeSet, fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, ensure};
use auditor_tests::{
    auditor::{Auditor, port},
    credential::{canary, leaks},
    oneshot::curl,
    process::{PATIENCE, Running},
    tools::{program, source},
};
use serde_json::Value;
use tempfile::TempDir;

const RULES: [&str; 4] =
    ["shared-credential", "credential-replayed", "credential-stripped", "new-unauthenticated-edge"];

/// Who makes a call.
#[derive(Clone, Copy, Debug)]
enum Caller {
    /// Ends at once: the auditor may not learn its name.
    Curl,
    Node,
    Python,
    /// The same program under another name.
    Batch,
}

/// Services, each a workload of its own: a script of its own name.
struct Rig {
    directory: TempDir,
    services: Vec<Running>,
    callers: Vec<Running>,
}

impl Rig {
    fn new() -> Result<Self> {
        Ok(Self { directory: TempDir::new()?, services: Vec::new(), callers: Vec::new() })
    }

    /// Starts a service; with what it does to calls and where it sends them on to, if it does. Its port.
    fn service(&mut self, name: &str, on: Option<(&str, u16)>) -> Result<u16> {
        let script = self.directory.path().join(format!("{name}.py"));
        fs::copy(source("servers/crosscall/service.py"), &script)?;
        let mut command = Command::new(program("python3")?);
        command.arg(script);
        if let Some((mode, port)) = on {
            command.arg(mode).arg(port.to_string());
        }
        let mut running = Running::start(name, command)?;
        let port = running.expect_line()?.parse()?;
        self.services.push(running);
        Ok(port)
    }

    /// GETs a path with one header.
    fn call(&mut self, caller: Caller, port: u16, path: &str, header: &str) -> Result<()> {
        let url = format!("http://127.0.0.1:{port}{path}");
        let status = match caller {
            Caller::Curl => {
                let config = format!("header = \"{header}\"\n");
                let arguments =
                    ["--disable", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}", "--config", "-"];
                curl(&[&arguments[..], &[&url]].concat(), &config, None)?.output
            }
            Caller::Node => self.script("node", source("clients/crosscall/caller.mjs"), &url, header)?,
            Caller::Python => self.script("python3", source("clients/crosscall/caller.py"), &url, header)?,
            Caller::Batch => {
                let script = self.directory.path().join("batch.py");
                fs::copy(source("clients/crosscall/caller.py"), &script)?;
                self.script("python3", script, &url, header)?
            }
        };
        ensure!(status == "200", "{caller:?} {url}: {status:?}");
        Ok(())
    }

    /// Runs a caller, which stays until the end: who it was can be told as long as it is there.
    fn script(&mut self, interpreter: &str, script: PathBuf, url: &str, header: &str) -> Result<String> {
        let mut command = Command::new(program(interpreter)?);
        command.arg(script).arg(url);
        let mut running = Running::start(interpreter, command)?;
        running.write(&format!("{header}\n"))?;
        let status = running.expect_line()?;
        self.callers.push(running);
        Ok(status)
    }
}

/// Records of the calls to these paths.
fn records<'a>(records: &'a [Value], path: &str) -> Vec<&'a Value> {
    records.iter().filter(|record| record["request"]["path"] == path).collect()
}

/// Findings of the rules across calls, with their details.
fn across(record: &Value) -> Vec<(&str, &str)> {
    let findings = record["findings"].as_array().into_iter().flatten();
    let words = findings.filter_map(|finding| Some((finding["rule"].as_str()?, finding["detail"].as_str()?)));
    words.filter(|(rule, _)| RULES.contains(rule)).collect()
}

fn rules(record: &Value) -> BTreeSet<&str> {
    across(record).into_iter().map(|(rule, _)| rule).collect()
}

#[test]
fn each_rule_across_calls_is_provoked_and_nothing_else_is_found() {
    let mut rig = Rig::new().unwrap();
    let orders = rig.service("orders", None).unwrap();
    let billing = rig.service("billing", None).unwrap();
    let stripping = rig.service("stripping", Some(("strip", orders))).unwrap();
    let gateway = rig.service("gateway", Some(("pass", orders))).unwrap();
    let mut auditor = Auditor::watch(rig.directory.path(), &[]).unwrap();
    let secrets: Vec<String> = (0..5).map(|_| canary()).collect();
    let [shared, replayed, stripped, passed, own] = secrets.as_slice() else { panic!("five") };

    let shared = format!("Authorization: Bearer {shared}");
    for caller in [Caller::Python, Caller::Node, Caller::Batch] {
        rig.call(caller, orders, "/shared", &shared).unwrap();
    }
    let replayed = format!("X-API-Key: {replayed}");
    for port in [orders, billing] {
        rig.call(Caller::Python, port, "/replayed", &replayed).unwrap();
    }
    // curl sends one header of its own choice and the id with it.
    let id = format!("Authorization: Bearer {stripped}\"\nheader = \"X-Request-Id: {}", canary());
    rig.call(Caller::Curl, stripping, "/stripped", &id).unwrap();
    // The control group: each caller has a key of its own, and a gateway sends on what it gets.
    let own = format!("X-API-Key: {own}");
    for _ in 0..2 {
        rig.call(Caller::Node, orders, "/own", &own).unwrap();
    }
    let id = format!("Authorization: Bearer {passed}\"\nheader = \"X-Request-Id: {}", canary());
    rig.call(Caller::Curl, gateway, "/passed", &id).unwrap();

    let expected = [("/shared", 3), ("/replayed", 2), ("/stripped", 2), ("/own", 2), ("/passed", 2)];
    let arrived =
        auditor.wait_until(PATIENCE, |found| expected.iter().all(|(path, count)| records(found, path).len() >= *count));
    arrived.with_context(|| auditor.log()).unwrap();
    let finished = auditor.stop().unwrap();
    let of = |path: &str| records(&finished.records, path);
    for (path, count) in expected {
        assert_eq!(of(path).len(), count, "{path}: {:#?}", of(path));
    }
    let found: Vec<_> = of("/shared").into_iter().map(across).collect();
    let with = |what: &str| vec![("shared-credential", format!("token in header:authorization used by {what}"))];
    let found: Vec<Vec<(&str, String)>> = found
        .into_iter()
        .map(|all| all.into_iter().map(|(rule, detail)| (rule, detail.to_owned())).collect())
        .collect();
    let two = with("2 workloads: node:caller.mjs, python3:caller.py");
    let three = with("3 workloads: node:caller.mjs, python3:batch.py, python3:caller.py");
    assert_eq!(found, [vec![], two, three]);
    assert!(of("/shared")[1..].iter().all(|record| record["verdict"] == "weak"), "{:#?}", of("/shared"));
    let found: Vec<_> = of("/replayed").into_iter().map(rules).collect();
    assert_eq!(found, [BTreeSet::new(), BTreeSet::from(["credential-replayed"])]);
    // On one of the two, whichever was answered second.
    let found: Vec<_> = of("/stripped").into_iter().flat_map(across).collect();
    assert!(matches!(found.as_slice(), [("credential-stripped", _)]), "{:#?}", of("/stripped"));
    let behind = of("/stripped").into_iter().find(|record| port(record, "destination") == Some(orders)).unwrap();
    assert_eq!(behind["verdict"], "unauthenticated");
    for path in ["/own", "/passed"] {
        assert!(of(path).iter().all(|record| across(record).is_empty()), "{:#?}", of(path));
    }
    let printed = finished.lines.join("\n") + &finished.log;
    assert!(!secrets.iter().any(|secret| leaks(&printed, secret)), "a secret leaked");
}

#[test]
fn a_new_caller_is_found_once_edges_are_learned() {
    let mut rig = Rig::new().unwrap();
    let orders = rig.service("orders", None).unwrap();
    let mut auditor = Auditor::watch(rig.directory.path(), &["--learning-window", "0s"]).unwrap();
    rig.call(Caller::Node, orders, "/new", "Accept: text/plain").unwrap();
    rig.call(Caller::Node, orders, "/proven", &format!("X-API-Key: {}", canary())).unwrap();
    auditor.wait_until(PATIENCE, |found| !records(found, "/proven").is_empty()).unwrap();
    let finished = auditor.stop().unwrap();
    let [new] = records(&finished.records, "/new")[..] else { panic!("one call: {:#?}", finished.records) };
    assert_eq!(rules(new), BTreeSet::from(["new-unauthenticated-edge"]));
    assert!(records(&finished.records, "/proven").iter().all(|record| across(record).is_empty()));
    // The default learns for a day.
    let mut auditor = Auditor::watch(rig.directory.path(), &[]).unwrap();
    rig.call(Caller::Python, orders, "/learned", "Accept: text/plain").unwrap();
    auditor.wait_until(PATIENCE, |found| !records(found, "/learned").is_empty()).unwrap();
    let finished = auditor.stop().unwrap();
    assert!(records(&finished.records, "/learned").iter().all(|record| across(record).is_empty()));
}
