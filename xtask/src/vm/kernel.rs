//! Kernels of Debian's releases, fetched by apt with sources, lists and caches of their own under `target/vm`: the machine's
//! own package state is neither read nor changed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::process::{read, root, run, say};

/// Where the modules lie, beside the image.
const MODULES_FOLDER: &str = "modules";
/// The keys of Debian's releases, old and new.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Depends on the newest kernel for virtual machines of a release.
const META_PACKAGE: &str = "linux-image-cloud-amd64";

/// What translates addresses, each behind those that it needs. Where one of them is built in there is no file of it.
const TRANSLATION: [&str; 9] = [
    "libcrc32c",
    "nf_defrag_ipv4",
    "nf_defrag_ipv6",
    "nf_conntrack",
    "nf_nat",
    "nfnetlink",
    "nf_tables",
    "nft_chain_nat",
    "nft_nat",
];
/// What kernel TLS takes with AES-GCM, likewise.
const TLS: [&str; 6] = ["gf128mul", "ghash-generic", "ctr", "crypto_null", "gcm", "tls"];
/// Says, beside the modules, which were looked for: those of a machine that cached fewer are fetched anew.
const LOOKED_FOR: &str = "looked-for";

/// A kernel the auditor is tested on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Release {
    /// The kernel's series.
    pub(crate) series: &'static str,
    /// Debian's release that has it.
    pub(crate) suite: &'static str,
    /// It has what reading TLS plaintext needs.
    pub(crate) plaintext: bool,
}

/// Every kernel the auditor is tested on, oldest first.
pub(crate) const RELEASES: &[Release] = &[
    Release { series: "5.10", suite: "bullseye", plaintext: false },
    Release { series: "6.1", suite: "bookworm", plaintext: true },
    Release { series: "6.12", suite: "trixie", plaintext: true },
];

/// The kernel's image, fetched when it is not there yet. A machine that caches `target/vm` fetches it once.
///
/// # Errors
/// When there is no Debian mirror or the package cannot be had.
pub(crate) fn image(release: Release) -> Result<PathBuf> {
    let folder = root().join("target/vm").join(release.suite);
    let image = folder.join("vmlinuz");
    let looked_for = fs::read_to_string(folder.join(MODULES_FOLDER).join(LOOKED_FOR)).unwrap_or_default();
    if image.exists() && looked_for == names() {
        return Ok(image);
    }
    say(format!("fetching the {} kernel of Debian {}", release.series, release.suite));
    let apt = Apt::prepare(&folder, release)?;
    run(apt.command("apt-get").args(["--quiet", "--quiet", "update"]))?;
    let package = apt.kernel_package()?;
    run(apt.command("apt-get").args(["--quiet", "--quiet", "download", &package]).current_dir(&folder))?;
    unpack(&folder, &package, &image)?;
    // The lists alone are forty times the kernel's size.
    fs::remove_dir_all(&apt.folder)?;
    Ok(image)
}

/// Modules of a kernel that guests need, in the order in which they are loaded.
pub(crate) struct Modules {
    /// The kernel's series.
    pub(crate) series: &'static str,
    /// Those that translate addresses.
    pub(crate) translation: Vec<PathBuf>,
    /// Those of kernel TLS.
    pub(crate) tls: Vec<PathBuf>,
}

/// The modules of a kernel.
///
/// # Errors
/// As of [`image`].
pub(crate) fn modules(release: Release) -> Result<Modules> {
    let folder = image(release)?.with_file_name(MODULES_FOLDER);
    let files = |names: &[&str]| {
        let files = names.iter().map(|name| folder.join(name).with_extension("ko"));
        files.filter(|file| file.exists()).collect()
    };
    Ok(Modules { series: release.series, translation: files(&TRANSLATION), tls: files(&TLS) })
}

/// The names of all modules that are looked for.
fn names() -> String {
    [&TRANSLATION[..], &TLS].concat().join(" ")
}

/// An apt whose whole state lies in one folder.
struct Apt {
    folder: PathBuf,
}

impl Apt {
    fn prepare(folder: &Path, release: Release) -> Result<Self> {
        let folder = folder.join("apt");
        for sub in ["lists/partial", "cache/archives/partial", "empty"] {
            fs::create_dir_all(folder.join(sub))?;
        }
        fs::write(folder.join("status"), "")?;
        if !Path::new(KEYRING).exists() {
            bail!("{KEYRING} is missing: install debian-archive-keyring");
        }
        let (main, security) = mirrors()?;
        let suite = release.suite;
        let mut sources = format!("deb [signed-by={KEYRING}] {main} {suite} main\n");
        if let Some(security) = security {
            sources += &format!("deb [signed-by={KEYRING}] {security} {suite}-security main\n");
        }
        fs::write(folder.join("sources.list"), sources)?;
        fs::write(folder.join("apt.conf"), settings(&folder))?;
        Ok(Self { folder })
    }

    /// `program` of apt, bound to the folder.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", self.folder.join("apt.conf"));
        command
    }

    /// The package that the meta package depends on.
    fn kernel_package(&self) -> Result<String> {
        let text = read(self.command("apt-cache").args(["depends", "--important", META_PACKAGE]))?;
        text.lines()
            .find_map(|line| line.trim().strip_prefix("Depends: "))
            .filter(|name| name.starts_with("linux-image-"))
            .map(str::to_owned)
            .with_context(|| format!("{META_PACKAGE} names no kernel: {text:?}"))
    }
}

fn settings(folder: &Path) -> String {
    let path = |name: &str| folder.join(name).display().to_string();
    [
        ("Dir::Etc::SourceList", path("sources.list")),
        ("Dir::Etc::SourceParts", path("empty")),
        ("Dir::Etc::Preferences", path("empty/none")),
        ("Dir::Etc::PreferencesParts", path("empty")),
        ("Dir::State::Lists", path("lists")),
        ("Dir::State::Status", path("status")),
        ("Dir::Cache", path("cache")),
        ("APT::Architecture", "amd64".to_owned()),
        ("APT::Architectures", "amd64".to_owned()),
        ("Acquire::Languages", "none".to_owned()),
        // The folder need not be readable by apt's own user.
        ("APT::Sandbox::User", String::new()),
    ]
    .map(|(setting, value)| format!("{setting} \"{value}\";\n"))
    .concat()
}

/// Where this machine gets Debian from, and Debian's security updates.
fn mirrors() -> Result<(String, Option<String>)> {
    let text = read(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(CREATED_BY) $(ORIGIN) $(CODENAME) $(REPO_URI)",
    ]))?;
    let mut main = None;
    let mut security = None;
    for line in text.lines() {
        let mut words = line.split(' ');
        let (Some("Packages"), Some("Debian"), Some(codename), Some(uri)) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            continue;
        };
        let place = if codename.ends_with("-security") { &mut security } else { &mut main };
        place.get_or_insert_with(|| uri.to_owned());
    }
    let main =
        main.context("apt knows no Debian mirror here; kernels come from one: add one and run `apt-get update`")?;
    Ok((main, security))
}

/// Takes the image and the modules out of the one package in `folder`.
fn unpack(folder: &Path, package: &str, image: &Path) -> Result<()> {
    let archive = fs::read_dir(folder)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .with_context(|| format!("apt left no archive of {package}"))?;
    let unpacked = folder.join("unpacked");
    run(Command::new("dpkg-deb").arg("--extract").arg(&archive).arg(&unpacked))?;
    let boot = unpacked.join("boot");
    let found = fs::read_dir(&boot)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz")))
        .with_context(|| format!("{package} holds no kernel image"))?;
    unpack_modules(&unpacked, &folder.join(MODULES_FOLDER))?;
    // Last, and by renaming: an image that is there is whole.
    fs::rename(found, image)?;
    fs::remove_dir_all(&unpacked)?;
    Ok(fs::remove_file(&archive)?)
}

/// Releases keep modules in different folders, and compress them or not.
fn unpack_modules(unpacked: &Path, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    for name in TRANSLATION.iter().chain(&TLS) {
        let found = read(Command::new("find").arg(unpacked).args(["-name", &format!("{name}.ko*")]))?;
        let Some(found) = found.lines().next().map(Path::new) else { continue };
        let module = folder.join(name).with_extension("ko");
        if found.extension().is_some_and(|extension| extension == "xz") {
            let written = fs::File::create(&module)?;
            run(Command::new("xz").args(["--decompress", "--stdout"]).arg(found).stdout(written))?;
        } else {
            fs::copy(found, module)?;
        }
    }
    Ok(fs::write(folder.join(LOOKED_FOR), names())?)
}
