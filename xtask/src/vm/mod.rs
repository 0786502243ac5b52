//! Boots the auditor on stock kernels of Debian's releases under QEMU and checks what it says of real calls there.

mod faults;
mod guest;
mod hooks;
pub(crate) mod initramfs;
pub(crate) mod kernel;
mod ktls;
mod protocols;

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use self::{
    guest::{Programs, Report},
    kernel::RELEASES,
};
use crate::process::{cargo, find, root, run, say};

/// Emulated guests on a busy machine are slow; one that hangs must not hang the tests.
const LIMIT: Duration = Duration::from_mins(8);

/// The hooks that are tried alone; `init.sh` says the same.
pub(crate) const HOOKS: [&str; 4] = ["cgroup", "fentry", "kprobe", "syscall"];

/// Boots every kernel of `series`, or all. With `write` what was seen becomes `docs/kernels.md` and the golden counts.
///
/// # Errors
/// When a kernel cannot be had, a guest does not boot, or the auditor judges a call wrong there. All kernels are tried first.
pub(crate) fn run_matrix(series: &[String], auditor: PathBuf, write: bool) -> Result<()> {
    if write && !series.is_empty() {
        bail!("--write needs every kernel: leave --kernel out");
    }
    if let Some(unknown) = series.iter().find(|name| RELEASES.iter().all(|release| release.series != *name)) {
        let known: Vec<&str> = RELEASES.iter().map(|release| release.series).collect();
        bail!("no kernel {unknown}; there are {}", known.join(", "));
    }
    // Optimised: emulated guests are slow, and what they hold is loaded into their memory.
    let cases = ["vm-case", "tls-case", "ktls-case"];
    let mut build = cargo();
    build.args(["build", "--release", "--locked", "--package", "auditor-tests"]);
    run(build.args(cases.iter().flat_map(|case| ["--bin", case])))?;
    let built = |name: &str| root().join("target/release").join(name);
    let chosen =
        RELEASES.iter().filter(|release| series.is_empty() || series.iter().any(|name| name == release.series));
    // What cannot be had is said below, when it is this kernel's turn.
    let modules = chosen.clone().filter_map(|release| kernel::modules(*release).ok()).collect();
    let [case, tls_case, ktls_case] = cases.map(built);
    let programs = Programs { auditor, case, tls_case, ktls_case, modules };
    let initramfs = root().join("target/vm/initramfs");
    fs::create_dir_all(root().join("target/vm"))?;
    fs::write(&initramfs, guest::initramfs(&programs)?)?;
    let mut failed = Vec::new();
    let (mut rows, mut kernel_tls, mut counts) = (Vec::new(), Vec::new(), BTreeMap::new());
    for release in chosen {
        let start = Instant::now();
        let result = kernel::image(*release).and_then(|image| {
            let log = image.with_file_name("console.log");
            let guest =
                Boot { image: &image, initramfs: &initramfs, init: "/init", more: &[], log: &log, limit: LIMIT };
            let console = boot(&guest)?;
            let report = Report::parse(&console);
            report
                .check(&format!("{}.", release.series), release.plaintext)
                .with_context(|| log.display().to_string())?;
            let run: Vec<&str> = report.hooks.iter().map(|run| run.hook.as_str()).collect();
            if run != HOOKS {
                bail!("the hooks {run:?} were run, not {HOOKS:?}");
            }
            let mut wrong = String::new();
            for run in report.hooks.iter().filter(|run| !lacks_returns(release.series, &run.hook)) {
                match run.check(release.series) {
                    Ok(row) => rows.push(row),
                    Err(error) => wrong += &format!("{error:#}\n"),
                }
                let counted: &mut BTreeMap<_, _> = counts.entry(release.series.to_owned()).or_default();
                counted.extend(run.instructions());
            }
            if !wrong.is_empty() {
                bail!("{}: {wrong}", log.display());
            }
            let log = image.with_file_name("faults.log");
            let console = boot(&Boot { init: "/faults", more: faults::MACHINE, log: &log, ..guest })?;
            faults::check(&console).with_context(|| log.display().to_string())?;
            if release.plaintext {
                let log = image.with_file_name("ktls.log");
                let console = boot(&Boot { init: "/ktls", log: &log, ..guest })?;
                let calls = ktls::check(&console).with_context(|| log.display().to_string())?;
                kernel_tls.push((release.series.to_owned(), calls));
                let counted: &mut BTreeMap<_, _> = counts.entry(release.series.to_owned()).or_default();
                for (program, count) in hooks::instructions(&console) {
                    // The hooks' own were counted above, each alone.
                    counted.entry(program).or_insert(count);
                }
            } else {
                // What the auditor says of this kernel was checked above.
                kernel_tls.push((release.series.to_owned(), ktls::NOT_READ.to_owned()));
            }
            Ok(report.kernel)
        });
        let seconds = start.elapsed().as_secs();
        match result {
            Ok(kernel) => {
                let hooks: Vec<&str> = HOOKS.into_iter().filter(|hook| !lacks_returns(release.series, hook)).collect();
                let calls = kernel_tls.last().map_or("", |(_, calls)| calls);
                say(format!(
                    "kernel {kernel}: loaded, captured, judged right by {}, beside faults; calls over kernel TLS right: {calls}; \
                     {seconds} s",
                    hooks.join(", ")
                ));
            }
            Err(error) => {
                say(format!("kernel {}: FAILED after {seconds} s: {error:#}", release.series));
                failed.push(release.series);
            }
        }
    }
    if !failed.is_empty() {
        bail!("the auditor failed on kernels {}", failed.join(", "));
    }
    counts.retain(|_, programs| !programs.is_empty());
    hooks::check_instructions(&counts, write)?;
    if write {
        hooks::write_table(&rows, &kernel_tls, &counts)?;
    }
    Ok(())
}

/// Before 5.17 the kernel keeps one kretprobe instance for each processor, and a guest has one: while one thread waits in `tcp_recvmsg`
/// what all others read is missed and counted (`register_kretprobe`, kernel/kprobes.c at v5.10).
fn lacks_returns(series: &str, hook: &str) -> bool {
    series == "5.10" && hook == "kprobe"
}

/// A guest to boot.
pub(crate) struct Boot<'a> {
    /// The kernel.
    pub(crate) image: &'a Path,
    /// Its files.
    pub(crate) initramfs: &'a Path,
    /// The program it runs, of those.
    pub(crate) init: &'a str,
    /// More arguments of QEMU.
    pub(crate) more: &'a [&'a str],
    /// Where to leave what its console prints.
    pub(crate) log: &'a Path,
    /// How long it may take.
    pub(crate) limit: Duration,
}

/// Boots a guest and returns what its console printed until it powered off or its time was up.
///
/// # Errors
/// When QEMU is missing or fails.
pub(crate) fn boot(Boot { image, initramfs, init, more, log, limit }: &Boot<'_>) -> Result<String> {
    let qemu = find("qemu-system-x86_64").context("QEMU is missing: run `cargo xtask setup --tests`")?;
    let mut child = Command::new(qemu)
        // 6.12 double-faults on an emulated cmpxchg16b; one thread keeps emulation deterministic.
        .args(["-cpu", "Haswell,-cx16", "-accel", "tcg,thread=single", "-smp", "1", "-m", "1536"])
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot"])
        .arg("-kernel")
        .arg(image)
        .arg("-initrd")
        .arg(initramfs)
        .args(["-append", &format!("console=ttyS0 quiet loglevel=3 panic=-1 rdinit={init}")])
        .args(*more)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // It warns of every processor feature it does not emulate.
        .stderr(fs::File::create(log.with_extension("qemu"))?)
        .spawn()
        .context("cannot start QEMU")?;
    let output = child.stdout.take().context("QEMU has no output")?;
    let (sender, lines) = mpsc::channel();
    let reader = thread::spawn(move || {
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        while output.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                break;
            }
            line.clear();
        }
    });
    let end = Instant::now() + *limit;
    let mut console = String::new();
    // Written line by line: a guest that takes minutes shows how far it is.
    let mut written = fs::File::create(log)?;
    while let Ok(line) = lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
        written.write_all(line.as_bytes())?;
        console += &line;
    }
    // It has powered off and closed its output, or the time is up.
    drop(child.kill());
    child.wait().context("QEMU cannot be waited for")?;
    drop(lines);
    reader.join().map_err(|_panic| anyhow::anyhow!("the console's reader panicked"))?;
    Ok(console)
}
