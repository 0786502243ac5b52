//! `auditor doctor`: what this machine and user can do, which hooks would be used, what would be missed, how to mend it. It
//! loads and attaches the programs for a moment: nothing else proves that they can be.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use super::{Failure, live, print};
use crate::{
    cli::{DoctorArgs, DoctorOutput},
    config::Config,
    kernel::{
        plan::Hook as Capturing,
        probe::{Answer, Capabilities, Fact},
    },
    plaintext::finder::{Seen, kernel_does_tls, survey},
    sinks::Escaped,
};

/// Everything `doctor` says.
#[derive(Serialize)]
struct Diagnosis {
    live_capture: bool,
    /// Why it does not work.
    reason: Option<String>,
    hooks: Vec<Hook>,
    /// Every hook that can capture, in order of preference.
    capture: Vec<CaptureHook>,
    facts: Vec<FactRecord>,
    unix_sockets: UnixSockets,
    tls_plaintext: TlsPlaintext,
    kernel_tls: KernelTls,
    tls_libraries: Vec<TlsLibrary>,
}

/// Whether `tls_plaintext` can be used.
#[derive(Serialize)]
struct TlsPlaintext {
    available: bool,
    /// Why not.
    reason: Option<String>,
}

/// Whether `tls_plaintext` reads what the kernel encrypts for processes.
#[derive(Serialize)]
struct KernelTls {
    available: bool,
    /// Why not.
    reason: Option<String>,
    /// The kernel does TLS now: its module is loaded.
    loaded: bool,
}

/// Whether `unix_sockets` can be used.
#[derive(Serialize)]
struct UnixSockets {
    available: bool,
    /// Why not.
    reason: Option<String>,
}

/// A file with a TLS library that a process maps.
#[derive(Serialize)]
struct TlsLibrary {
    library: &'static str,
    path: String,
    /// Whether `tls_plaintext` reads it.
    covered: bool,
    /// Why not.
    reason: Option<String>,
}

/// A hook and what it is for.
#[derive(Serialize)]
struct Hook {
    name: &'static str,
    used: bool,
    purpose: &'static str,
}

/// A hook that can capture, and whether it is the one.
#[derive(Serialize)]
struct CaptureHook {
    /// What `--capture` calls it.
    name: &'static str,
    used: bool,
    loads: bool,
    /// Why its programs do not load.
    reason: Option<String>,
    attaches_to: &'static str,
    misses: &'static str,
}

#[derive(Serialize)]
struct FactRecord {
    name: &'static str,
    answer: &'static str,
    reason: Option<String>,
    value: String,
    /// What follows if the answer is not yes.
    consequence: Option<&'static str>,
    remedy: Option<&'static str>,
}

pub(super) fn run(arguments: &DoctorArgs) -> Result<(), Failure> {
    let diagnosis = diagnose();
    match arguments.output {
        DoctorOutput::Text => print(&text(&diagnosis))?,
        DoctorOutput::Json => {
            let json = serde_json::to_string_pretty(&diagnosis).expect("plain structs with string keys become JSON");
            print(&format!("{json}\n"))?;
        }
    }
    if diagnosis.live_capture { Ok(()) } else { Err(Failure::Doctor) }
}

fn diagnose() -> Diagnosis {
    let facts = Capabilities::read().facts();
    let live = live::open(&Config::default());
    let live_capture = live.is_ok();
    let iterator = live.as_ref().is_ok_and(|live| live.iterator);
    let used = live.as_ref().ok().map(|live| live.hook);
    let reason = live.err().map(|failure| failure.to_string());
    let packets = used == Some(Capturing::Cgroup);
    let hooks = vec![
        Hook {
            name: "cgroup_skb/egress",
            used: packets,
            purpose: "sees what every socket sends, and which process sends it",
        },
        Hook { name: "cgroup_skb/ingress", used: packets, purpose: "sees what every socket receives" },
        Hook {
            name: "iter/task_file",
            used: iterator,
            purpose: "names the processes of sockets that exist at the start, in every network namespace",
        },
        Hook {
            name: "sock_diag, procfs",
            used: live_capture && !iterator,
            purpose: "stand in for iter/task_file; they see the network namespaces that have a process to be read",
        },
    ];
    let tls_plaintext = match live::reads_plaintext() {
        Ok(()) => TlsPlaintext { available: true, reason: None },
        Err(reason) => TlsPlaintext { available: false, reason: Some(reason) },
    };
    let kernel_tls = live::reads_kernel_tls();
    let kernel_tls = KernelTls { available: kernel_tls.is_ok(), reason: kernel_tls.err(), loaded: kernel_does_tls() };
    let unix_sockets = match live::reads_unix_sockets() {
        Ok(()) => UnixSockets { available: true, reason: None },
        Err(reason) => UnixSockets { available: false, reason: Some(reason) },
    };
    let tls_libraries = libraries(tls_plaintext.available);
    let facts = facts.into_iter().map(FactRecord::new).collect();
    let capture = Capturing::ALL.map(|hook| CaptureHook::tried(hook, used)).into();
    Diagnosis { live_capture, reason, hooks, capture, unix_sockets, tls_plaintext, kernel_tls, tls_libraries, facts }
}

impl CaptureHook {
    /// Whether the hook's programs load is found out by loading them; those of the hook in use have been.
    fn tried(hook: Capturing, used: Option<Capturing>) -> Self {
        let answer = if used == Some(hook) { Answer::Yes } else { live::try_hook(hook) };
        let reason = match &answer {
            Answer::Yes => None,
            Answer::No(reason) | Answer::Unknown(reason) => Some(reason.clone()),
        };
        Self {
            name: hook.as_str(),
            used: used == Some(hook),
            loads: answer.is_yes(),
            reason,
            attaches_to: hook.attaches_to(),
            misses: hook.misses(),
        }
    }
}

/// The libraries that processes map. Where plaintext is not `available` none of them is read.
fn libraries(available: bool) -> Vec<TlsLibrary> {
    let unavailable = || (!available).then(|| "TLS plaintext cannot be read here".to_owned());
    let library = |seen: Seen| {
        let reason = seen.uncovered.or_else(unavailable);
        TlsLibrary { library: seen.library.as_str(), path: seen.path, covered: reason.is_none(), reason }
    };
    survey().into_iter().map(library).collect()
}

impl FactRecord {
    fn new(fact: Fact) -> Self {
        let (answer, reason) = match fact.answer {
            Answer::Yes => ("yes", None),
            Answer::No(reason) => ("no", Some(reason)),
            Answer::Unknown(reason) => ("unknown", Some(reason)),
        };
        let matters = answer != "yes";
        Self {
            name: fact.name,
            answer,
            reason,
            value: fact.value,
            consequence: matters.then_some(fact.consequence),
            remedy: (matters && !fact.remedy.is_empty()).then_some(fact.remedy),
        }
    }
}

fn text(diagnosis: &Diagnosis) -> String {
    let mut out = String::new();
    write_text(&mut out, diagnosis).expect("writing to a String does not fail");
    out
}

fn write_text(out: &mut String, diagnosis: &Diagnosis) -> std::fmt::Result {
    match &diagnosis.reason {
        None => writeln!(out, "Live capture works.")?,
        Some(reason) => writeln!(out, "Live capture does not work: {reason}")?,
    }
    writeln!(out, "\nHooks")?;
    for hook in &diagnosis.hooks {
        let used = if hook.used { painted(AnsiColor::Green, "used") } else { painted(AnsiColor::Red, "not used") };
        writeln!(out, "  {:20} {used}: {}", hook.name, hook.purpose)?;
    }
    writeln!(out, "\nCapture: the first of these that works, or the one --capture names")?;
    for CaptureHook { name, used, reason, attaches_to, misses, .. } in &diagnosis.capture {
        let word = match (used, reason) {
            (true, _) => painted(AnsiColor::Green, "used"),
            (false, None) => painted(AnsiColor::Yellow, "loads"),
            (false, Some(_)) => painted(AnsiColor::Red, "does not load"),
        };
        writeln!(out, "  {name:10} {word}: {attaches_to}")?;
        writeln!(out, "  {:10} Does not see {misses}", "")?;
        if let Some(reason) = reason {
            writeln!(out, "  {:10} {}", "", reason.lines().next().unwrap_or_default())?;
        }
    }
    match &diagnosis.unix_sockets.reason {
        None => writeln!(
            out,
            "\nCalls over AF_UNIX sockets can be read where unix_sockets asks for it, which slows every system call a little. Not \
             seen: io_uring, 32-bit programs, TLS inside such a socket."
        )?,
        Some(reason) => writeln!(out, "\nCalls over AF_UNIX sockets cannot be read: {reason}")?,
    }
    match &diagnosis.tls_plaintext.reason {
        None => writeln!(out, "\nTLS plaintext can be read where tls_plaintext asks for it.")?,
        Some(reason) => writeln!(
            out,
            "\nTLS plaintext cannot be read; with tls_plaintext what the wire shows of TLS stands: {reason}"
        )?,
    }
    match (&diagnosis.kernel_tls.reason, diagnosis.kernel_tls.loaded) {
        (None, true) => writeln!(
            out,
            "Kernel TLS is loaded: with tls_plaintext its calls are read, which slows every system call a little."
        )?,
        (None, false) => writeln!(
            out,
            "Kernel TLS is not loaded: this kernel has none, or no process has asked for it yet. With tls_plaintext its calls \
             are read from then on."
        )?,
        (Some(reason), _) => writeln!(out, "Kernel TLS cannot be read: {}", reason.lines().next().unwrap_or_default())?,
    }
    if !diagnosis.tls_libraries.is_empty() {
        writeln!(out, "\nTLS libraries that processes map, and whether tls_plaintext reads them")?;
    }
    for TlsLibrary { library, path, covered, reason } in &diagnosis.tls_libraries {
        let word = if *covered { painted(AnsiColor::Green, "yes") } else { painted(AnsiColor::Yellow, "no") };
        let reason = reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
        writeln!(out, "  {library:10} {word}  {}{reason}", Escaped(path))?;
    }
    writeln!(out, "\nThis machine")?;
    for fact in &diagnosis.facts {
        let color = match fact.answer {
            "yes" => AnsiColor::Green,
            "no" => AnsiColor::Red,
            _ => AnsiColor::Yellow,
        };
        let reason = fact.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let value = if fact.value.is_empty() { String::new() } else { format!("  ({})", fact.value) };
        writeln!(out, "  {:24} {}{reason}{value}", fact.name, painted(color, fact.answer))?;
        if let Some(consequence) = fact.consequence {
            writeln!(out, "  {:24} {consequence}", "")?;
        }
        if let Some(remedy) = fact.remedy {
            writeln!(out, "  {:24} To mend it: {remedy}", "")?;
        }
    }
    Ok(())
}

/// Colours are taken out again where the output is no terminal.
fn painted(color: AnsiColor, word: &str) -> String {
    let style: Style = color.on_default();
    format!("{style}{word}{style:#}")
}
