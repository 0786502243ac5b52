//! Puts the eBPF objects where `kernel::object` embeds them from: the file named by `AUDITOR_EBPF_OBJECT` (those of TLS plaintext,
//! of system calls and of the probes: by `AUDITOR_PLAINTEXT_OBJECT`, `AUDITOR_SYSCALLS_OBJECT` and `AUDITOR_PROBES_OBJECT`), else what
//! `cargo xtask build-ebpf` left in `target/bpf`, else an empty stub, with which all but
//! live capture works.

use std::{
    env,
    error::Error,
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// The objects' files, and the variables that name others.
const OBJECTS: [(&str, &str); 4] = [
    ("auditor.bpf.o", "AUDITOR_EBPF_OBJECT"),
    ("plaintext.bpf.o", "AUDITOR_PLAINTEXT_OBJECT"),
    ("syscalls.bpf.o", "AUDITOR_SYSCALLS_OBJECT"),
    ("probes.bpf.o", "AUDITOR_PROBES_OBJECT"),
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let folder = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    for (name, variable) in OBJECTS {
        println!("cargo::rerun-if-env-changed={variable}");
        let object = match env::var_os(variable) {
            Some(path) => named(variable, Path::new(&path))?,
            None => built(name)?,
        };
        let target = folder.join(name);
        fs::write(&target, object).map_err(|error| format!("{}: {error}", target.display()))?;
    }
    Ok(())
}

/// An object that was asked for by name must be there.
fn named(variable: &str, path: &Path) -> Result<Vec<u8>, Box<dyn Error>> {
    // Cargo runs this in the crate's folder, people name files from where they are.
    if path.is_relative() {
        return Err(format!("{variable}={}: give an absolute path", path.display()).into());
    }
    println!("cargo::rerun-if-changed={}", path.display());
    let object = fs::read(path).map_err(|error| {
        format!("{variable}={}: {error}; unset it, or build one with `cargo xtask build-ebpf`", path.display())
    })?;
    if !object.starts_with(b"\x7fELF") {
        return Err(format!("{variable}={}: not an ELF object", path.display()).into());
    }
    Ok(object)
}

/// The object that `cargo xtask build-ebpf` left, or nothing.
fn built(name: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("CARGO_MANIFEST_DIR is not set")?);
    let path = root.join("../target/bpf").join(name);
    // Cargo takes a watched file that does not exist for one that always changes, so an empty one is put there. Where that is
    // impossible (sources mounted read-only) nothing is watched: nothing can appear there either.
    if !path.exists() && leave_stub(&path).is_err() {
        return Ok(Vec::new());
    }
    println!("cargo::rerun-if-changed={}", path.display());
    Ok(fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?)
}

fn leave_stub(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    // Older than this run, or the next build would run this again.
    fs::File::create_new(path)?.set_modified(SystemTime::UNIX_EPOCH)
}
