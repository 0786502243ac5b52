//! Building the eBPF object from source.
//!
//! The target has no precompiled core in rustup's toolchains. Debian's `rustc-web` with `libstd-rust-web-dev-bpf` has one; else
//! core is built from the `rust-src` of the pinned toolchain. Both compilers are stable ones that are told to accept the few
//! unstable features aya-ebpf needs.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    process::{cargo, find, path_with_tools, read, root, run, say},
    setup,
};

/// Debian's compiler and its core for the target.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CORE: &str = "/usr/lib/rustlib/bpfel-unknown-none/lib";
const TARGET: &str = "bpfel-unknown-none";

/// Version of bpf-linker. Its LLVM must not be older than the compiler's.
pub(crate) const LINKER_VERSION: &str = "0.13.0";

/// A compiler for the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compiler {
    /// Debian's, with its precompiled core.
    Debian,
    /// The pinned toolchain, building core from its sources.
    Source,
}

/// The objects: that of capture, those of TLS plaintext and of system calls, which are loaded only when asked for, and that of the probes,
/// which is loaded where packets cannot be seen.
const OBJECTS: [&str; 4] = ["auditor", "plaintext", "syscalls", "probes"];

/// Where an object is put, and where the build script of `auditor` looks for it.
fn object(name: &str) -> PathBuf {
    root().join("target/bpf").join(name).with_extension("bpf.o")
}

/// The compiler that can be used here.
pub(crate) fn compiler() -> Option<Compiler> {
    if Path::new(DEBIAN_RUSTC).exists() && Path::new(DEBIAN_CORE).exists() {
        return Some(Compiler::Debian);
    }
    let sysroot = read(Command::new("rustc").current_dir(root()).args(["--print", "sysroot"])).ok()?;
    let sources = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core/Cargo.toml");
    sources.exists().then_some(Compiler::Source)
}

/// Whether the right linker is there.
pub(crate) fn has_linker() -> bool {
    find("bpf-linker").is_some_and(|linker| {
        read(Command::new(linker).arg("--version")).is_ok_and(|version| version.trim().ends_with(LINKER_VERSION))
    })
}

/// Builds the object when its sources or the compiler have changed, setting the machine up first when it is not.
///
/// # Errors
/// When the toolchain cannot be had or the programs do not compile.
pub(crate) fn build() -> Result<()> {
    let compiler = match (compiler(), has_linker()) {
        (Some(compiler), true) => compiler,
        _ => setup::ebpf_toolchain()?,
    };
    let folder = root().join("target/bpf/build");
    // Cargo itself knows whether anything changed; a build with nothing to do takes a tenth of a second.
    run(compile(compiler, &folder).current_dir(root().join("auditor-ebpf")))?;
    OBJECTS.into_iter().try_for_each(|name| put(&folder, name))
}

fn put(folder: &Path, name: &str) -> Result<()> {
    let built = folder.join(TARGET).join("release").join(name);
    let bytes = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    // Untouched when equal, so that the auditor is not built again.
    if fs::read(object(name)).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    fs::write(object(name), &bytes).with_context(|| format!("cannot write {}", object(name).display()))?;
    say(format!("eBPF object {name}: {} bytes", bytes.len()));
    Ok(())
}

fn compile(compiler: Compiler, folder: &Path) -> Command {
    let mut command = cargo();
    command.args(["build", "--release", "--locked", "--target", TARGET]);
    if compiler == Compiler::Source {
        command.args(["-Z", "build-std=core"]);
    } else {
        command.env("RUSTC", DEBIAN_RUSTC);
    }
    // Flags meant for this machine's programs would be wrong for the kernel's; the crate's own configuration has the right ones.
    for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS", "RUSTC_WRAPPER"] {
        command.env_remove(variable);
    }
    command.env("RUSTC_BOOTSTRAP", "1").env("PATH", path_with_tools()).env("CARGO_TARGET_DIR", folder);
    command
}
