//! What watches the calls: the auditor by each of its hooks, and what people use instead and Debian ships.

use std::collections::BTreeMap;

use crate::vm::HOOKS;

/// In a command: the server's port.
const PORT: &str = "PORT";
/// In a command: where the auditor serves its metrics.
const METRICS: &str = "METRICS";
/// In a command: the process of the server that answers.
const WORKER: &str = "WORKER";

/// bpftrace has no filter for ports in a system call, so it takes what one process reads: 200 bytes are the most it copies.
const HEADS: &str = "BEGIN { printf(\"ready\\n\"); } \
    tracepoint:syscalls:sys_enter_recvfrom /pid == WORKER/ { @buffer[tid] = args->ubuf; } \
    tracepoint:syscalls:sys_exit_recvfrom /@buffer[tid]/ { \
    if (args->ret > 0) { printf(\"head %d %s %s\\n\", pid, comm, str(@buffer[tid], 200)); } delete(@buffer[tid]); }";
/// Its tracepoints are files of tracefs, which is not mounted everywhere; it is mounted for bpftrace alone.
const WITH_TRACEFS: &str = "mount -t tracefs tracefs /sys/kernel/tracing; exec \"$@\"";

/// Something that watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Watcher {
    /// As the table names it.
    pub(super) name: String,
    /// What it says of a call.
    pub(super) gives: &'static str,
    /// The program whose size counts.
    pub(super) program: &'static str,
    /// What it is.
    pub(super) kind: Kind,
    words: Vec<String>,
}

/// What a watcher is: what it prints differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `auditor run`.
    Auditor,
    /// tcpdump to a file.
    Tcpdump,
    /// tshark with fields of requests.
    Tshark,
    /// bpftrace with [`HEADS`].
    Bpftrace,
    /// sslsniff of bcc: looks into TLS only.
    Sslsniff,
}

/// What a watcher says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Said {
    /// Requests, or packets where it knows only those, that it has.
    pub(super) seen: Option<f64>,
    /// Of so many, where it says so; else of the requests that were made.
    pub(super) of: Option<f64>,
    /// Records or packets it lost, in its own words' unit.
    pub(super) lost: Option<f64>,
}

/// Every watcher, the auditor by every hook first.
pub(super) fn all() -> Vec<Watcher> {
    let watcher = |name: &str, gives, program, kind, words: &[&str]| Watcher {
        name: name.to_owned(),
        gives,
        program,
        kind,
        words: words.iter().map(|word| (*word).to_owned()).collect(),
    };
    let mut watchers: Vec<Watcher> = HOOKS
        .iter()
        .map(|hook| {
            let words = ["auditor", "run", "--listen", METRICS, "--capture", hook];
            let gives = "method, path, status, credentials, both processes, verdict";
            watcher(&format!("auditor, {hook}"), gives, "auditor", Kind::Auditor, &words)
        })
        .collect();
    let packets = ["tcpdump", "-Z", "root", "-n", "-i", "lo", "-w", "/dev/null", "tcp port PORT"];
    let heads = [&packets[..6], &["-s", "256"], &packets[6..]].concat();
    watchers.extend([
        watcher("tcpdump -w /dev/null", "raw packets", "tcpdump", Kind::Tcpdump, &packets),
        watcher("tcpdump -s 256 -w /dev/null", "raw packets, 256 bytes of each", "tcpdump", Kind::Tcpdump, &heads),
        watcher(
            "tshark -Y http.request -T fields",
            "method, path, one header",
            "tshark",
            Kind::Tshark,
            &[
                "tshark",
                "-n",
                "-i",
                "lo",
                "-f",
                "tcp port PORT",
                "-d",
                "tcp.port==PORT,http",
                "-Y",
                "http.request",
                "-T",
                "fields",
                "-e",
                "ip.src",
                "-e",
                "tcp.srcport",
                "-e",
                "http.request.method",
                "-e",
                "http.request.uri",
                "-e",
                "http.authorization",
            ],
        ),
        watcher(
            "bpftrace, recvfrom of nginx",
            "200 bytes of each read, one process",
            "bpftrace",
            Kind::Bpftrace,
            &[
                "unshare",
                "--mount",
                "sh",
                "-c",
                WITH_TRACEFS,
                "sh",
                "env",
                "BPFTRACE_STRLEN=200",
                "bpftrace",
                "-e",
                HEADS,
            ],
        ),
        watcher(
            "sslsniff of bcc, over TLS",
            "what is inside TLS, one process",
            "sslsniff-bpfcc",
            Kind::Sslsniff,
            // Else Python keeps what it prints until there is a block of it.
            &["env", "PYTHONUNBUFFERED=1", "sslsniff-bpfcc", "--pid", WORKER],
        ),
    ]);
    watchers
}

impl Watcher {
    /// Its command, with the server's port, its process and the address of the auditor's metrics.
    pub(super) fn command(&self, port: u16, worker: &str, metrics: &str) -> Vec<String> {
        let port = port.to_string();
        let filled = |word: &String| word.replace(PORT, &port).replace(WORKER, worker).replace(METRICS, metrics);
        self.words.iter().map(filled).collect()
    }
}

impl Kind {
    /// What it writes once it watches.
    pub(super) fn ready(self) -> &'static str {
        match self {
            Self::Auditor => " INFO capturing\n",
            Self::Tcpdump => "listening on",
            Self::Tshark => "Capture started",
            Self::Bpftrace => "ready",
            Self::Sslsniff => "FUNC",
        }
    }

    /// What a line of its standard output that tells of a request begins with or, of the auditor's metrics, what it contains.
    pub(super) fn marks(self) -> &'static str {
        match self {
            Self::Auditor => "auditor_",
            Self::Tcpdump => "nothing",
            Self::Tshark => "127.0.0.1",
            Self::Bpftrace => "head ",
            Self::Sslsniff => "READ/RECV",
        }
    }

    /// What it says of itself: `requests` lines of its output bear its mark, `log` is what it wrote of errors and at its end. What the
    /// auditor says is in its metrics.
    pub(super) fn said(self, requests: f64, log: &str) -> Said {
        match self {
            Self::Auditor => Said::default(),
            Self::Tcpdump => {
                // On loopback the filter sees each packet twice and one of them is not captured, so what is captured is no measure.
                let of = number_before(log, " packets received by filter");
                let lost = number_before(log, " packets dropped by kernel");
                Said { seen: of.zip(lost).map(|(of, lost)| of - lost), of, lost }
            }
            Self::Tshark => Said {
                seen: Some(requests),
                of: None,
                // It says nothing when it dropped nothing.
                lost: Some(number_before(log, " packets dropped").unwrap_or(0.0)),
            },
            Self::Bpftrace => Said { seen: Some(requests), of: None, lost: Some(sum_between(log, "Lost ", " events")) },
            Self::Sslsniff => {
                Said { seen: Some(requests), of: None, lost: Some(sum_between(log, "Possibly lost ", " samples")) }
            }
        }
    }
}

/// The sum of the numbers that stand between these words.
fn sum_between(text: &str, before: &str, after: &str) -> f64 {
    let numbers = text.lines().filter_map(|line| number_before(line.strip_prefix(before)?, after));
    // An empty sum of floats is -0.
    numbers.fold(0.0, |sum, number| sum + number)
}

/// The number that precedes `words` on one of the lines; words may differ by number, as in `1 packet captured`.
fn number_before(text: &str, words: &str) -> Option<f64> {
    let one = words.replacen("packets", "packet", 1);
    text.lines().find_map(|line| {
        let (before, _) = line.split_once(words).or_else(|| line.split_once(&one))?;
        before.rsplit(' ').next()?.parse().ok()
    })
}

/// Why something does not start, in its own words: its first complaint, else its last line.
pub(super) fn reason(log: &str) -> String {
    // Raising the limit on locked memory fails where it is not needed (Linux 5.11).
    let lines = || log.lines().map(str::trim).filter(|line| !line.is_empty() && !line.contains("RLIMIT_MEMLOCK"));
    let complains = |line: &&str| {
        let line = line.to_lowercase();
        ["error", "unable", "cannot", "couldn't"].iter().any(|word| line.contains(word))
    };
    let said = lines().find(complains).or_else(|| lines().next_back()).unwrap_or("it says nothing");
    // The rest is advice.
    let said = said.split("; ").next().unwrap_or(said).trim_start_matches("error: ");
    said.replace('|', "/").chars().take(REASON).collect()
}

/// Characters of a reason that are shown.
const REASON: usize = 200;

/// Sums of the auditor's metrics that are asked for here, from lines in the Prometheus text format.
pub(super) fn of_metrics(text: &str) -> Said {
    let mut sums = BTreeMap::from([("auditor_exchanges_total", 0.0), ("auditor_capture_lost_total", 0.0)]);
    for line in text.lines() {
        let family = line.split(['{', ' ']).next().unwrap_or_default();
        let of_server = family != "auditor_exchanges_total" || line.contains("destination_workload=\"nginx\"");
        let value = line.rsplit(' ').next().and_then(|value| value.trim().parse::<f64>().ok());
        if let (Some(sum), Some(value), true) = (sums.get_mut(family), value, of_server) {
            *sum += value;
        }
    }
    Said {
        seen: sums.get("auditor_exchanges_total").copied(),
        of: None,
        lost: sums.get("auditor_capture_lost_total").copied(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcpdump_is_understood() {
        let log = "tcpdump: listening on lo, link-type EN10MB (Ethernet), snapshot length 262144 bytes\n1200 packets captured\n\
                   2400 packets received by filter\n37 packets dropped by kernel\n";
        let said = Said { seen: Some(2363.0), of: Some(2400.0), lost: Some(37.0) };
        assert_eq!(Kind::Tcpdump.said(0.0, log), said);
        let one = "1 packet captured\n1 packet received by filter\n0 packets dropped by kernel\n";
        assert_eq!(Kind::Tcpdump.said(0.0, one), Said { seen: Some(1.0), of: Some(1.0), lost: Some(0.0) });
        assert_eq!(Kind::Tcpdump.said(0.0, "killed"), Said::default());
    }

    #[test]
    fn tshark_bpftrace_and_sslsniff_are_understood() {
        let log = "Capturing on 'Loopback: lo'\n ** (tshark:7) 21:01:53.9 [Main MESSAGE] -- Capture started.\n\
                   12 packets dropped from Loopback: lo\n40 packets captured\n";
        assert_eq!(Kind::Tshark.said(9.0, log), Said { seen: Some(9.0), of: None, lost: Some(12.0) });
        assert_eq!(Kind::Tshark.said(9.0, "40 packets captured\n").lost, Some(0.0));
        let log = "Attaching 3 probes...\nLost 12 events\nhead 5 nginx GET / HTTP/1.1\nLost 30 events\n";
        assert_eq!(Kind::Bpftrace.said(4.0, log), Said { seen: Some(4.0), of: None, lost: Some(42.0) });
        assert_eq!(Kind::Sslsniff.said(4.0, "Possibly lost 3 samples\n").lost, Some(3.0));
    }

    #[test]
    fn the_auditors_metrics_are_summed_for_the_server_only() {
        let text = "# HELP auditor_exchanges_total Calls.\n\
                    auditor_exchanges_total{destination_workload=\"nginx\",verdict=\"unknown\"} 2\n\
                    auditor_exchanges_total{destination_workload=\"nginx\",verdict=\"weak\"} 5\n\
                    auditor_exchanges_total{destination_workload=\"other\"} 9\n\
                    auditor_capture_lost_total{reason=\"ring\"} 3\nauditor_capture_lost_total_more 8\n";
        assert_eq!(of_metrics(text), Said { seen: Some(7.0), of: None, lost: Some(3.0) });
    }

    #[test]
    fn a_reason_is_the_first_complaint_without_advice() {
        let bpftrace = "ERROR: Unknown error -1: couldn't set RLIMIT_MEMLOCK for bpftrace.\nstdin:1:1-39: ERROR: tracepoint not found: a\n~~~\n";
        assert_eq!(reason(bpftrace), "stdin:1:1-39: ERROR: tracepoint not found: a");
        let auditor = "2026 INFO serving\nerror: no hook can capture here (kprobe: a | b); `auditor doctor` says what is missing\n";
        assert_eq!(reason(auditor), "no hook can capture here (kprobe: a / b)");
        let bcc =
            "sh: 1: modprobe: not found\nUnable to find kernel headers. Try rebuilding\nException: Failed to compile\n";
        assert_eq!(reason(bcc), "Unable to find kernel headers. Try rebuilding");
        assert_eq!(reason("one\ntwo\n\n"), "two");
        assert_eq!(reason(""), "it says nothing");
        assert_eq!(reason(&"error ".repeat(100)).len(), REASON);
    }

    #[test]
    fn commands_get_ports_and_every_hook_has_one() {
        let watchers = all();
        let hooks: Vec<&str> = watchers.iter().filter_map(|watcher| watcher.name.strip_prefix("auditor, ")).collect();
        assert_eq!(hooks, HOOKS);
        let command = watchers[0].command(81, "7", "127.0.0.1:99");
        assert_eq!(command, ["auditor", "run", "--listen", "127.0.0.1:99", "--capture", HOOKS[0]]);
        let tshark = watchers.iter().find(|watcher| watcher.kind == Kind::Tshark).expect("it is one");
        assert!(tshark.command(81, "7", "").contains(&"tcp.port==81,http".to_owned()));
        let bpftrace = watchers.iter().find(|watcher| watcher.kind == Kind::Bpftrace).expect("it is one");
        assert!(bpftrace.command(81, "7", "").iter().any(|word| word.contains("/pid == 7/")));
    }
}
