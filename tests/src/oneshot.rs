//! curl: a new process for each group of calls, and for single calls with arguments of the test's choice.

use std::{
    collections::{BTreeMap, HashMap},
    io::Write as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};

use crate::{
    clients::{Answer, Call, Mode},
    namespace::Namespace,
    process::{end_with_parent, executable},
    tools::program,
};

/// What curl did with one call.
#[derive(Clone, Debug)]
pub struct Curl {
    /// Its process.
    pub pid: u32,
    /// Its program.
    pub executable: String,
    /// What it printed.
    pub output: String,
}

/// Runs curl once with these arguments and this standard input.
///
/// # Errors
/// When it cannot be started. That curl itself says something failed is in its output.
pub fn curl(arguments: &[&str], input: &str, namespace: Option<&Namespace>) -> Result<Curl> {
    let mut command = Command::new(program("curl")?);
    command.args(arguments);
    if let Some(namespace) = namespace {
        namespace.enter(&mut command);
    }
    feed(command, input)
}

/// Runs a prepared curl that reads its standard input.
///
/// # Errors
/// As [`curl`].
pub fn feed(mut command: Command, input: &str) -> Result<Curl> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    end_with_parent(&mut command);
    let mut child = command.spawn().context("cannot start curl")?;
    let pid = child.id();
    // It waits for its input, so it is still there.
    let executable = executable(pid)?.display().to_string();
    child.stdin.take().context("standard input is piped")?.write_all(input.as_bytes())?;
    let output = String::from_utf8_lossy(&child.wait_with_output()?.stdout).into_owned();
    Ok(Curl { pid, executable, output })
}

/// Performs calls, one curl for each group.
///
/// # Errors
/// As [`curl`].
pub fn run_curl(calls: &[&Call], namespace: Option<&Namespace>) -> Result<HashMap<String, Answer>> {
    let mut groups: BTreeMap<&str, Vec<&Call>> = BTreeMap::new();
    for call in calls {
        groups.entry(&call.group).or_default().push(call);
    }
    let mut answers = HashMap::new();
    for calls in groups.values() {
        let config: Vec<String> = calls.iter().map(|call| entry(call)).collect();
        let done = curl(&["--disable", "--config", "-"], &config.join("next\n"), namespace)?;
        let mut statuses = done.output.lines();
        for call in calls {
            let line = statuses.next().unwrap_or("curl said nothing");
            let status = line.parse().map_err(|_| line.to_owned());
            let answer = Answer { status, pid: done.pid, executable: done.executable.clone() };
            answers.insert(call.id.clone(), answer);
        }
    }
    Ok(answers)
}

/// The lines of curl's config file for one call.
fn entry(call: &Call) -> String {
    let mut lines = vec![
        format!("url = \"http://{}{}\"", call.address, call.target),
        "silent\ngloboff\npath-as-is\nmax-time = 20\noutput = /dev/null\nwrite-out = \"%{http_code}\\n\"".into(),
    ];
    if call.method == "HEAD" {
        lines.push("head".into());
    } else {
        lines.push(format!("request = \"{}\"", call.method));
    }
    if call.body > 0 {
        lines.push(format!("data-binary = \"{}\"", "b".repeat(call.body)));
    }
    match call.mode {
        Mode::Http10 => lines.push("http1.0".into()),
        Mode::Chunked => lines.push("header = \"Transfer-Encoding: chunked\"".into()),
        Mode::Expect => lines.push("header = \"Expect: 100-continue\"".into()),
        // Without this curl expects a 100 by itself for large bodies.
        _ if call.body > 0 => lines.push("header = \"Expect:\"".into()),
        _ => {}
    }
    for (name, value) in &call.headers {
        lines.push(format!("header = \"{name}: {}\"", value.replace('\\', "\\\\").replace('"', "\\\"")));
    }
    lines.push(String::new());
    lines.join("\n")
}
