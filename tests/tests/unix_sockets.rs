//! Calls over `AF_UNIX` sockets: every call that was made is judged, and a container that reaches a runtime's socket is found.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use ::auditor::kernel::{
    cgroup,
    layout::{self, KERNEL_BTF},
    loader::Options,
    object, syscalls,
};
use anyhow::{Context as _, Result};
use auditor_tests::{
    auditor::{self, Auditor},
    oneshot::curl,
    process::{PATIENCE, Running, output},
    servers::interpreter,
    tools::program,
};
use serde_json::{Value, json};
use tempfile::TempDir;

const ARGUMENTS: [&str; 1] = ["--unix-sockets"];

/// Starts a server of this crate and waits until it listens.
fn server(runtime: &str, script: &str, socket: &Path) -> Result<Running> {
    let mut command = interpreter(runtime, script)?;
    command.arg(socket);
    let mut running = Running::start(script, command)?;
    running.expect_line()?;
    Ok(running)
}

/// Runs a client of this crate; the paths of the calls it made.
fn client(runtime: &str, script: &str, socket: &Path, prefix: &str, count: usize) -> Vec<String> {
    let mut command = interpreter(runtime, script).expect("the interpreter is there");
    command.arg(socket).arg(prefix).arg(count.to_string());
    output(&mut command).expect("the client makes its calls").lines().map(str::to_owned).collect()
}

fn path_of(record: &Value) -> &str {
    record["request"]["path"].as_str().unwrap_or_default()
}

/// Holds what was said of a call against what was made: the last part of its path is its number, and every third has a credential.
fn check(record: &Value, socket: &Path) {
    let number: usize = path_of(record).rsplit('/').next().and_then(|number| number.parse().ok()).expect("a number");
    let expected = if number.is_multiple_of(3) {
        [json!("authenticated"), Value::Null]
    } else {
        [json!("unknown"), json!("peer-credentials")]
    };
    assert_eq!([record["verdict"].clone(), record["unknown_reason"].clone()], expected, "{record}");
    assert_eq!((&record["response"]["status"], &record["outcome"]), (&json!(200), &json!("accepted")), "{record}");
    assert_eq!(record["destination"]["unix_path"], json!(socket), "{record}");
    for end in ["source", "destination"] {
        assert!(record[end]["address"].is_null() && record[end]["port"].is_null(), "{record}");
        assert_eq!(record[end]["internal"], true, "{record}");
        assert!(record[end]["process"]["pid"].as_u64().is_some_and(|pid| pid > 0), "{record}");
    }
    assert_eq!(record["findings"], json!([]), "{record}");
}

#[test]
fn every_call_over_a_unix_socket_is_judged() {
    let directory = TempDir::new().unwrap();
    let folder = directory.path();
    let sockets = [folder.join("python.sock"), folder.join("node.sock")];
    let _servers = [
        server("python3", "servers/unix/server.py", &sockets[0]).unwrap(),
        server("node", "servers/unix/server.mjs", &sockets[1]).unwrap(),
    ];
    let mut auditor = Auditor::watch(folder, &ARGUMENTS).unwrap();

    let mut made: Vec<(String, &PathBuf)> = Vec::new();
    for (socket, name) in sockets.iter().zip(["python", "node"]) {
        let python = client("python3", "clients/unix/client.py", socket, &format!("{name}/py"), 220);
        let node = client("node", "clients/unix/client.mjs", socket, &format!("{name}/js"), 120);
        assert_eq!((python.len(), node.len()), (220, 120), "the clients made their calls");
        made.extend(python.into_iter().chain(node).map(|path| (path, socket)));
        for at in 0..4 {
            // One connection for each run of curl.
            let paths = [1, 2, 4].map(|number| format!("/{name}/curl{at}/{number}"));
            let urls = paths.each_ref().map(|path| format!("url = \"http://unix{path}\"\n")).concat();
            let config = format!("{urls}unix-socket = \"{}\"\nsilent\nmax-time = 20\n", socket.display());
            curl(&["--disable", "--config", "-"], &config, None).unwrap();
            made.extend(paths.map(|path| (path, socket)));
        }
    }
    let judged = |records: &[Value]| made.iter().filter(|(path, _)| records.iter().any(|r| path_of(r) == path)).count();
    let waited = auditor.wait_until(PATIENCE, |records| records.len() >= made.len() && judged(records) == made.len());
    let finished = auditor.stop().unwrap();
    waited.unwrap_or_else(|error| panic!("{error}: {} of {}\n{}", judged(&finished.records), made.len(), finished.log));

    for (path, socket) in &made {
        let [record] = finished.records.iter().filter(|record| path_of(record) == path).collect::<Vec<_>>()[..] else {
            panic!("{path} was not judged once: {:#?}", finished.records)
        };
        check(record, socket);
    }
    // Other traffic of the node may have been lost.
    assert!(!finished.log.contains("syscall-"), "{}", finished.log);
}

/// A cgroup named as Docker names those of its containers; removed in the end.
struct Container(PathBuf);

impl Container {
    fn create(root: &Path, number: u32) -> Result<Self> {
        let directory =
            root.join(format!("docker-{:064x}.scope", u64::from(std::process::id()) << 32 | u64::from(number)));
        fs::create_dir(&directory).with_context(|| directory.display().to_string())?;
        Ok(Self(directory))
    }

    /// A command that enters the cgroup before it becomes what it is.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(program("sh").expect("there is a shell"));
        command.args(["-c", "echo $$ >\"$0/cgroup.procs\" && exec \"$@\""]).arg(&self.0).args(words);
        command.stdin(Stdio::null());
        command
    }

    fn id(&self) -> String {
        let name = self.0.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.trim_start_matches("docker-").trim_end_matches(".scope").to_owned()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn a_container_that_reaches_the_socket_of_a_runtime_or_a_data_store_is_found() {
    let directory = TempDir::new().unwrap();
    let folder = directory.path();
    let root = cgroup::find().unwrap();
    let container = Container::create(root.path(), 1).unwrap();
    let [docker, harmless, postgresql] = ["docker.sock", "app.sock", ".s.PGSQL.5432"].map(|name| folder.join(name));
    let _servers = [
        server("python3", "servers/unix/server.py", &docker).unwrap(),
        server("python3", "servers/unix/server.py", &harmless).unwrap(),
        server("python3", "servers/unix/server.py", &postgresql).unwrap(),
    ];
    let mut auditor = Auditor::watch(folder, &ARGUMENTS).unwrap();

    let curl = |socket: &Path, path: &str| {
        let (socket, url) = (socket.display().to_string(), format!("http://localhost{path}"));
        ["curl", "--disable", "--silent", "--max-time", "20", "--unix-socket", &socket, &url].map(str::to_owned)
    };
    for (socket, path) in [(&docker, "/containers/json"), (&harmless, "/harmless")] {
        let words = curl(socket, path);
        output(&mut container.command(&words.each_ref().map(String::as_str))).unwrap();
    }
    // From the host, and in a protocol that is not read: the start of a session of PostgreSQL, which is no HTTP.
    let words = curl(&docker, "/from-the-host");
    output(Command::new(program("curl").unwrap()).args(&words[1..])).unwrap();
    let greet = "import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); \
                 s.sendall(bytes([0,0,0,8,4,210,22,47])); s.shutdown(1); s.recv(9)";
    let target = postgresql.display().to_string();
    output(&mut container.command(&["python3", "-c", greet, &target])).unwrap();

    let is_store = |record: &Value| record["kind"] == "connection";
    let waited = auditor.wait_until(PATIENCE, |records| {
        ["/containers/json", "/harmless", "/from-the-host"]
            .iter()
            .all(|path| records.iter().any(|r| path_of(r) == *path))
            && records.iter().any(is_store)
    });
    let finished = auditor.stop().unwrap();
    waited.unwrap_or_else(|error| panic!("{error}\n{:#?}\n{}", finished.records, finished.log));
    let found = |is_it: &dyn Fn(&Value) -> bool| {
        let record = finished.records.iter().find(|record| is_it(record)).expect("it came");
        let findings = record["findings"].as_array().expect("a list").clone();
        (record.clone(), findings)
    };
    let (record, findings) = found(&|record| path_of(record) == "/containers/json");
    assert_eq!(record["source"]["container"]["id"], json!(container.id()), "{record}");
    assert_eq!([&findings[0]["rule"], &findings[0]["severity"]], ["unix-socket-exposed", "critical"], "{record}");
    let (record, findings) = found(&is_store);
    assert_eq!([&findings[0]["rule"], &findings[0]["severity"]], ["unix-socket-exposed", "high"], "{record}");
    assert_eq!(record["unknown_reason"], "unread-protocol", "{record}");
    for path in ["/harmless", "/from-the-host"] {
        let (record, findings) = found(&|record| path_of(record) == path);
        assert!(findings.is_empty(), "{record}");
    }
}

#[test]
fn this_kernel_loads_and_attaches_both_programs() {
    let layout = layout::for_syscalls(Path::new(KERNEL_BTF)).unwrap();
    assert!(layout.missing().is_empty(), "{:?}", layout.missing());
    let options = Options {
        ring_bytes: 256 << 10,
        request_head_bytes: 16 << 10,
        response_head_bytes: 4 << 10,
        offsets: layout.offsets().to_vec(),
        samples: false,
    };
    for name in [auditor_abi::syscalls::PROGRAM_EXIT, auditor_abi::syscalls::PROGRAM_EXIT_RAW] {
        let (mut program, _ring) = syscalls::load_one(object::syscalls().unwrap(), &options, name).unwrap();
        program.attach().unwrap();
    }
}

#[test]
fn doctor_says_whether_unix_sockets_can_be_read() {
    let text = output(&mut auditor::command(["doctor", "--output", "json"]).unwrap()).unwrap();
    let diagnosis: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(diagnosis["unix_sockets"], json!({"available": true, "reason": null}), "{text}");
}
