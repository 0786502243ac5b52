//! An emulated guest whose clock counts instructions (QEMU's `-icount shift=0`: each takes a nanosecond), so that what other load there is
//! on the machine shows in no figure.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, bail};

use super::{
    absent, markdown,
    watchers::{Kind, Said, Watcher, all, of_metrics, reason},
};
use crate::{
    process::{find, root, say},
    vm::{
        self,
        initramfs::Archive,
        kernel::{self, RELEASES},
    },
};

const INIT: &str = include_str!("guest.sh");
/// The kernel; `docs/performance.md` says so.
const SERIES: &str = "6.1";
/// Requests of a measured load, and of the one before it.
const REQUESTS: u32 = 4000;
const WARM: u32 = 200;
/// Where the guest's server listens and the auditor serves its metrics; `guest.sh` says the same.
const PORT: u16 = 8080;
const METRICS: &str = "127.0.0.1:9900";
/// Stands for the server's process.
const WORKER: &str = "@WORKER@";
/// Counting makes the guest some ten times slower, and what compiles takes billions of instructions.
const LIMIT: Duration = Duration::from_mins(40);
/// One processor whose instructions take a nanosecond each; where it would wait, its clock jumps. Time and chance are the same each time.
/// Without `erms` the kernel copies by words: QEMU counts each byte of `rep movsb` as an instruction.
const COUNTING: &[&str] = &[
    "-cpu",
    "Haswell,-cx16,-erms",
    "-icount",
    "shift=0,sleep=off",
    "-rtc",
    "base=2026-01-01,clock=vm",
    "-seed",
    "1",
    "-m",
    "2560",
];
/// The server and the load generator, and what watches.
const PROGRAMS: &[&str] = &["nginx", "h2load", "tcpdump", "tshark", "dumpcap", "bpftrace"];
const HEAD: [&str; 7] = [
    "watcher",
    "instructions per exchange, of all processes and the kernel",
    "exchanges/s, with / without",
    "of these in its own processes",
    "added elsewhere",
    "seen",
    "lost",
];

/// What one watcher took.
#[derive(Clone, Debug, Default, PartialEq)]
struct Run {
    name: String,
    /// Instructions of everything, and those of the watcher's processes.
    took: Option<(f64, f64)>,
    requests: f64,
    marked: f64,
    log: String,
    metrics: String,
}

/// The table of all watchers.
///
/// # Errors
/// When the kernel or a program is missing, or the guest does not come to its end.
pub(super) fn measure(auditor: &Path) -> Result<String> {
    let release = RELEASES.iter().find(|release| release.series == SERIES).context("the kernel is not known")?;
    let image = kernel::image(*release)?;
    let folder = root().join("target/bench");
    fs::create_dir_all(&folder)?;
    let (initramfs, log) = (folder.join("initramfs"), folder.join("console.log"));
    fs::write(&initramfs, archive(auditor)?)?;
    say("counting instructions in a guest: some minutes");
    let guest =
        vm::Boot { image: &image, initramfs: &initramfs, init: "/init", more: COUNTING, log: &log, limit: LIMIT };
    let console = vm::boot(&guest)?;
    table(&console).with_context(|| log.display().to_string())
}

fn archive(auditor: &Path) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for folder in ["proc", "sys", "dev", "run", "tmp", "var/log/nginx", "var/lib/nginx"] {
        archive.folder(folder);
    }
    archive.program("init", INIT.as_bytes());
    archive.with_libraries("usr/bin/auditor", auditor)?;
    let missing = |name: &str| format!("{name} is missing: run `cargo xtask setup --tests`");
    archive.with_libraries("bin/busybox", &find("busybox").with_context(|| missing("busybox"))?)?;
    for name in PROGRAMS {
        archive.with_libraries(&format!("usr/bin/{name}"), &find(name).with_context(|| missing(name))?)?;
    }
    archive.file("etc/passwd", b"root:x:0:0:root:/tmp:/bin/sh\n");
    archive.file("etc/group", b"root:x:0:\n");
    archive.file("etc/nginx.conf", NGINX.as_bytes());
    archive.file("etc/load", format!("REQUESTS={REQUESTS}\nWARM={WARM}\n").as_bytes());
    for (number, watcher) in in_guest().iter().enumerate() {
        archive.file(&format!("etc/watchers/{number:02}"), script(watcher).as_bytes());
    }
    Ok(archive.finish())
}

/// bcc needs Python and the kernel's headers, which the guest has not.
fn in_guest() -> Vec<Watcher> {
    all().into_iter().filter(|watcher| watcher.kind != Kind::Sslsniff).collect()
}

const NGINX: &str = "user root root; daemon off; worker_processes 1; pid /run/nginx.pid; error_log stderr;
events { worker_connections 256; }
http {
  access_log off; keepalive_requests 1000000000; keepalive_timeout 600s;
  client_body_temp_path /run/body; proxy_temp_path /run/proxy; fastcgi_temp_path /run/fastcgi;
  uwsgi_temp_path /run/uwsgi; scgi_temp_path /run/scgi;
  server { listen 127.0.0.1:8080; location / { return 200 \"an answer of thirty-eight bytes, always\"; } }
}
";

/// What `guest.sh` reads of a watcher.
fn script(watcher: &Watcher) -> String {
    let ready = watcher.kind.ready();
    let ready = ready.strip_suffix('\n').map_or_else(|| ready.to_owned(), |line| format!("{line}$"));
    let words: Vec<String> = watcher.command(PORT, WORKER, METRICS).iter().map(|word| quoted(word)).collect();
    format!(
        "NAME={}\nREADY={}\nMARKS={}\nstart() {{ exec {}; }}\n",
        quoted(&watcher.name),
        quoted(&ready),
        quoted(watcher.kind.marks()),
        words.join(" ")
    )
}

/// A word as a shell reads it; the server's process is known in the guest only.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''")).replace(WORKER, "'\"$WORKER\"'")
}

/// What the guest's console said, as a table.
fn table(console: &str) -> Result<String> {
    let (kernel, runs) = parse(console)?;
    let baseline = runs.first().and_then(Run::each).context("the guest measured no load")?;
    let watchers = in_guest();
    let rows: Vec<Vec<String>> = runs.iter().map(|run| row(run, &watchers, baseline)).collect();
    let mut text = format!(
        "Debian's Linux {kernel} under QEMU, one processor, {REQUESTS} requests of h2load over 16 connections to nginx; sslsniff of bcc \
         needs Python and the kernel's headers and is not in the guest.\n\n"
    );
    text += &markdown(&HEAD, &rows);
    Ok(text)
}

impl Run {
    /// Instructions per exchange, of everything and of its own processes.
    fn each(&self) -> Option<(f64, f64)> {
        let (all, own) = self.took?;
        (self.requests > 0.0).then(|| (all / self.requests, own / self.requests))
    }

    fn said(&self, kind: Kind) -> Said {
        if kind == Kind::Auditor { of_metrics(&self.metrics) } else { kind.said(self.marked, &self.log) }
    }
}

fn row(run: &Run, watchers: &[Watcher], (baseline, _): (f64, f64)) -> Vec<String> {
    let Some((all, own)) = run.each() else { return absent(&run.name, &reason(&run.log), HEAD.len()) };
    let figures = [format!("{all:.0}"), format!("{:.3}", baseline / all)];
    let Some(watcher) = watchers.iter().find(|watcher| watcher.name == run.name) else {
        return [run.name.clone()].into_iter().chain(figures).chain([""; 4].map(str::to_owned)).collect();
    };
    let said = run.said(watcher.kind);
    let of = said.of.unwrap_or(run.requests + f64::from(WARM));
    let or_not = |text: Option<String>| text.unwrap_or_else(|| "does not say".to_owned());
    let seen = or_not(said.seen.map(|seen| format!("{:.1} %", 100.0 * seen / of)));
    let lost = or_not(said.lost.map(|lost| format!("{lost:.0}")));
    let elsewhere = format!("{:.0}", all - own - baseline);
    [run.name.clone()].into_iter().chain(figures).chain([format!("{own:.0}"), elsewhere, seen, lost]).collect()
}

/// The kernel and what each load took, in order.
fn parse(console: &str) -> Result<(String, Vec<Run>)> {
    let (mut kernel, mut runs, mut ended): (_, Vec<Run>, _) = (String::new(), Vec::new(), false);
    let mut section = "";
    for line in console.lines() {
        let line = line.trim_end_matches('\r');
        // The firmware's last words may precede the first frame on its line.
        let Some((_, frame)) = line.split_once("@@") else {
            if let Some(run) = runs.last_mut() {
                run.line(section, line);
            }
            continue;
        };
        let (word, rest) = frame.trim_start().split_once(' ').unwrap_or((frame.trim(), ""));
        section = word;
        match (word, runs.last_mut()) {
            ("kernel", _) => rest.clone_into(&mut kernel),
            ("end", _) => ended = true,
            ("watcher", _) => runs.push(Run { name: rest.to_owned(), ..Run::default() }),
            ("took", Some(run)) => {
                run.took = rest.split_once(' ').and_then(|(all, own)| Some((all.parse().ok()?, own.parse().ok()?)));
            }
            ("marked", Some(run)) => run.marked = rest.parse().unwrap_or(0.0),
            _ => {}
        }
    }
    if !ended {
        bail!("the guest did not come to its end");
    }
    Ok((kernel, runs))
}

impl Run {
    /// A line of one of its sections.
    fn line(&mut self, section: &str, line: &str) {
        let text = match section {
            "log" => &mut self.log,
            "metrics" => &mut self.metrics,
            "took" => {
                let requests = line.split(',').find_map(|part| part.trim().strip_suffix(" succeeded")?.parse().ok());
                self.requests = requests.unwrap_or(self.requests);
                return;
            }
            _ => return,
        };
        text.push_str(line);
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONSOLE: &str = "firmware@@ kernel 6.1.0\r\n@@ watcher nothing\r\n@@ took 400000 0\r\n\
        requests: 10 total, 10 started, 10 done, 10 succeeded, 0 failed\r\n\
        @@ watcher auditor, cgroup\r\n@@ took 800000 300000\r\nrequests: 10 total, 10 done, 10 succeeded\r\n\
        @@ marked 0\r\n@@ log\r\n INFO capturing\r\n@@ metrics\r\n\
        auditor_exchanges_total{destination_workload=\"nginx\"} 210\r\nauditor_capture_lost_total 0\r\n@@\r\n\
        @@ watcher tcpdump -w /dev/null\r\n@@ absent\r\n@@ marked 0\r\n@@ log\r\n\
        tcpdump: lo: You don't have permission\r\n@@ metrics\r\n@@\r\n@@ end\r\n";

    #[test]
    fn a_console_becomes_a_table() {
        let text = table(CONSOLE).expect("it came to its end");
        assert!(text.contains("| nothing | 40000 | 1.000 |  |  |  |  |\n"), "{text}");
        assert!(text.contains("| auditor, cgroup | 80000 | 0.500 | 30000 | 10000 | 100.0 % | 0 |\n"), "{text}");
        let absent = "| tcpdump -w /dev/null – does not start: tcpdump: lo: You don't have permission |";
        assert!(text.contains(absent), "{text}");
        assert!(table(&CONSOLE.replace("@@ end", "")).is_err());
    }

    #[test]
    fn a_watchers_script_is_quoted_for_the_shell() {
        let watchers = in_guest();
        let text = script(&watchers[0]);
        assert!(text.starts_with("NAME='auditor, cgroup'\nREADY=' INFO capturing$'\n"), "{text}");
        assert!(text.contains("exec 'auditor' 'run' '--listen' '127.0.0.1:9900'"), "{text}");
        assert_eq!(quoted("it's"), "'it'\\''s'");
        assert_eq!(quoted("/pid == @WORKER@/"), "'/pid == '\"$WORKER\"'/'");
        assert!(watchers.iter().all(|watcher| watcher.kind != Kind::Sslsniff));
    }
}
