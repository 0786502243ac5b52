//! Offsets of the kernel struct members the programs read ([`auditor_abi::layout`]), from the kernel's own BTF. What cannot be
//! resolved is absent, never guessed; each absence says what is lost by it.

use std::{fs::File, io::Read as _, path::Path};

use auditor_abi::{
    layout::{ABSENT, FIELDS, Field, ITERATOR_FIELDS},
    plaintext, probes, syscalls,
};

use super::btf::{Btf, BtfError};

/// Where the running kernel shows its BTF.
pub const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";
/// Largest BTF that is read, bytes. Real ones have 4 to 12 MiB.
const FILE_MAX: u64 = 64 << 20;

/// What is lost when a member is absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Loss {
    /// Address and port as the application has them; those on the wire stand in.
    Endpoints,
    /// The list of sockets that exist at start.
    ExistingSockets,
    /// The network namespace of a socket.
    NetworkNamespace,
    /// The process that sends.
    Process,
}

/// Why a member's offset is not known, and what is lost by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The member.
    pub field: Field,
    /// Why.
    pub reason: BtfError,
    /// What is lost.
    pub loss: Loss,
}

/// The value of every offset global.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    offsets: Vec<(&'static str, u32)>,
    missing: Vec<Missing>,
}

/// Why the kernel's BTF cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// It is there and makes no sense.
    #[error("{path}: {reason}")]
    Content {
        /// The file.
        path: String,
        /// Why.
        reason: BtfError,
    },
    /// It cannot be read.
    #[error("{path}: {reason}; build the kernel with CONFIG_DEBUG_INFO_BTF=y, or mount sysfs and run as root")]
    File {
        /// The file.
        path: String,
        /// Why.
        reason: std::io::Error,
    },
    /// It is larger than any kernel's.
    #[error("{path}: larger than {} MiB, no kernel has that much BTF", FILE_MAX >> 20)]
    TooLarge {
        /// The file.
        path: String,
    },
}

/// Resolves every member of [`FIELDS`] and [`ITERATOR_FIELDS`].
#[must_use]
pub fn resolve(btf: &Btf<'_>) -> Layout {
    resolved(btf, wanted)
}

/// Where a global stands more than once the first member that exists counts.
fn resolved<F: Iterator<Item = Field>>(btf: &Btf<'_>, wanted: fn() -> F) -> Layout {
    let mut names: Vec<&str> = wanted().map(|field| field.structure).collect();
    names.sort_unstable();
    names.dedup();
    let structures = btf.structures(&names);
    let mut layout = Layout { offsets: Vec::new(), missing: Vec::new() };
    for field in wanted() {
        let found = match names.binary_search(&field.structure).ok().and_then(|at| structures.get(at)) {
            Some(structure) => btf.offset(structure, field.path),
            None => Err(BtfError::NoStruct { structure: field.structure.to_owned() }),
        };
        layout.set(field, found);
    }
    layout
}

/// Reads a BTF file, normally [`KERNEL_BTF`], and resolves every member.
///
/// # Errors
/// When the file cannot be read or is not BTF. [`Layout::absent`] is what to go on with.
pub fn from_file(path: &Path) -> Result<Layout, LayoutError> {
    read(path, resolve)
}

/// Like [`from_file`], of the members that the programs for TLS plaintext read.
///
/// # Errors
/// As [`from_file`].
pub fn for_plaintext(path: &Path) -> Result<Layout, LayoutError> {
    read(path, |btf| resolved(btf, wanted_for_plaintext))
}

/// Like [`from_file`], of the members that the program at the exit of system calls reads.
///
/// # Errors
/// As [`from_file`].
pub fn for_syscalls(path: &Path) -> Result<Layout, LayoutError> {
    read(path, |btf| resolved(btf, wanted_for_syscalls))
}

/// Like [`from_file`], of the members that the probes on the kernel's functions read, and what else those need to know.
///
/// # Errors
/// As [`from_file`], and when something is missing without which they capture nothing.
pub fn for_probes(path: &Path) -> Result<Layout, LayoutError> {
    sufficient(path, read(path, resolved_for_probes)?, &probes::ESSENTIAL)
}

/// Like [`from_file`], of the members that the programs of system calls read where they stand in for the probes.
///
/// # Errors
/// As [`for_probes`].
pub fn for_calls(path: &Path) -> Result<Layout, LayoutError> {
    sufficient(path, read(path, resolved_for_calls)?, &probes::ESSENTIAL_FOR_CALLS)
}

/// What [`from_file`], [`for_probes`] and [`for_calls`] give.
#[derive(Debug)]
pub struct Layouts {
    /// Of the packet programs.
    pub packets: Layout,
    /// Of the probes, or why they capture nothing.
    pub probes: Result<Layout, LayoutError>,
    /// Of the programs of system calls, likewise.
    pub calls: Result<Layout, LayoutError>,
}

/// Every hook's layout, by one reading of the file.
///
/// # Errors
/// As [`from_file`].
pub fn all(path: &Path) -> Result<Layouts, LayoutError> {
    let (packets, probes, calls) = read(path, |btf| (resolve(btf), resolved_for_probes(btf), resolved_for_calls(btf)))?;
    let probes = sufficient(path, probes, &probes::ESSENTIAL);
    Ok(Layouts { packets, probes, calls: sufficient(path, calls, &probes::ESSENTIAL_FOR_CALLS) })
}

/// The layout, when nothing is missing without which its programs capture nothing.
fn sufficient(path: &Path, layout: Layout, essential: &[&str]) -> Result<Layout, LayoutError> {
    let lacking = layout.missing.iter().find(|missing| essential.contains(&missing.field.global));
    match lacking {
        Some(Missing { reason, .. }) => {
            Err(LayoutError::Content { path: path.display().to_string(), reason: reason.clone() })
        }
        None => Ok(layout),
    }
}

fn resolved_for_probes(btf: &Btf<'_>) -> Layout {
    let mut layout = resolved(btf, wanted_for_probes);
    let old = probes::FIELDS.iter().any(|field| {
        let found = btf.structures(&[field.structure]).first().is_some_and(|of| btf.offset(of, field.path).is_ok());
        (field.global, field.path) == (probes::GLOBAL_ITERATOR_TYPE, "type") && found
    });
    let mask = if old { probes::ITERATOR_MASK_OLD } else { probes::ITERATOR_MASK_BYTE };
    layout.offsets.push((probes::GLOBAL_ITERATOR_MASK, mask));
    let arity = btf.arity(probes::FUNCTION_RECEIVE).and_then(|arity| u32::try_from(arity).ok());
    layout.offsets.push((probes::GLOBAL_RECEIVE_ARITY, arity.unwrap_or(ABSENT)));
    layout.offsets.extend(probes::ENUMERATORS.map(|(global, name)| {
        let value = btf.enumerator(name).and_then(|value| u32::try_from(value).ok());
        (global, value.unwrap_or(ABSENT))
    }));
    layout
}

/// What system calls are given lies in the process' memory, and in no structure of the kernel's.
fn resolved_for_calls(btf: &Btf<'_>) -> Layout {
    let mut layout = resolved(btf, wanted_for_probes);
    layout.offsets.push((probes::GLOBAL_ARRAYS_OF_PROCESS, 1));
    layout
}

fn read<L>(path: &Path, resolve: fn(&Btf<'_>) -> L) -> Result<L, LayoutError> {
    let name = || path.display().to_string();
    let file = |reason| LayoutError::File { path: name(), reason };
    let mut bytes = Vec::new();
    let read = File::open(path).map_err(file)?.take(FILE_MAX + 1).read_to_end(&mut bytes).map_err(file)?;
    if read as u64 > FILE_MAX {
        return Err(LayoutError::TooLarge { path: name() });
    }
    let btf = Btf::parse(&bytes).map_err(|reason| LayoutError::Content { path: name(), reason })?;
    Ok(resolve(&btf))
}

impl Layout {
    /// Nothing is known: what a kernel without BTF gives.
    #[must_use]
    pub fn absent() -> Self {
        let missing = wanted()
            .map(|field| Missing {
                field,
                reason: BtfError::NoStruct { structure: field.structure.to_owned() },
                loss: Loss::of(field.global),
            })
            .collect();
        Self { offsets: wanted().map(|field| (field.global, ABSENT)).collect(), missing }
    }

    /// Nothing is known of what the programs for TLS plaintext read.
    #[must_use]
    pub fn absent_for_plaintext() -> Self {
        Self { offsets: wanted_for_plaintext().map(|field| (field.global, ABSENT)).collect(), missing: Vec::new() }
    }

    /// Nothing is known of what the program at the exit of system calls reads.
    #[must_use]
    pub fn absent_for_syscalls() -> Self {
        Self { offsets: wanted_for_syscalls().map(|field| (field.global, ABSENT)).collect(), missing: Vec::new() }
    }

    fn set(&mut self, field: Field, found: Result<u32, BtfError>) {
        let known = self.offsets.iter().position(|(global, _)| *global == field.global);
        match (found, known) {
            (Ok(offset), None) => self.offsets.push((field.global, offset)),
            (Ok(offset), Some(at)) if self.offsets[at].1 == ABSENT => {
                self.offsets[at].1 = offset;
                self.missing.retain(|missing| missing.field.global != field.global);
            }
            (Err(reason), None) => {
                self.offsets.push((field.global, ABSENT));
                self.missing.push(Missing { field, reason, loss: Loss::of(field.global) });
            }
            (Ok(_) | Err(_), Some(_)) => {}
        }
    }

    /// Name and value of every offset global, [`FIELDS`] first; [`ABSENT`] where it is not known.
    #[must_use]
    pub fn offsets(&self) -> &[(&'static str, u32)] {
        &self.offsets
    }

    /// The members that are not known.
    #[must_use]
    pub fn missing(&self) -> &[Missing] {
        &self.missing
    }

    /// What is lost, each once, in alphabetical order.
    #[must_use]
    pub fn losses(&self) -> Vec<Loss> {
        let mut losses: Vec<_> = self.missing.iter().map(|missing| missing.loss).collect();
        losses.sort_unstable();
        losses.dedup();
        losses
    }
}

impl Loss {
    /// Short name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Endpoints => "endpoints",
            Self::ExistingSockets => "existing-sockets",
            Self::NetworkNamespace => "network-namespace",
            Self::Process => "process",
        }
    }

    /// What the user will miss, as a sentence.
    #[must_use]
    pub fn consequence(self) -> &'static str {
        match self {
            Self::Endpoints => {
                "Addresses are those on the wire: behind DNAT the service the caller asked for is not shown."
            }
            Self::ExistingSockets => {
                "Sockets that exist at start are looked up through sock_diag and procfs instead of the kernel iterator."
            }
            Self::NetworkNamespace => {
                "Equal addresses in different network namespaces cannot be told apart when a peer is looked up."
            }
            Self::Process => {
                "The sending process is looked up through sock_diag and procfs: short-lived clients stay unnamed."
            }
        }
    }

    fn of(global: &str) -> Self {
        match global {
            "OFF_SK_NET" | "OFF_NET_INUM" => Self::NetworkNamespace,
            "OFF_SK_LOCK_OWNED" => Self::Process,
            name if name.starts_with("OFF_TASK_") => Self::Process,
            name if ITERATOR_FIELDS.iter().any(|field| field.global == name) => Self::ExistingSockets,
            _ => Self::Endpoints,
        }
    }
}

fn wanted() -> impl Iterator<Item = Field> {
    FIELDS.into_iter().chain(ITERATOR_FIELDS)
}

fn wanted_for_plaintext() -> impl Iterator<Item = Field> {
    wanted().filter(|field| plaintext::SHARED_FIELDS.contains(&field.global)).chain(plaintext::FIELDS)
}

fn wanted_for_syscalls() -> impl Iterator<Item = Field> {
    let shared = wanted().chain(plaintext::FIELDS).filter(|field| syscalls::SHARED_FIELDS.contains(&field.global));
    shared.chain(syscalls::FIELDS)
}

fn wanted_for_probes() -> impl Iterator<Item = Field> {
    let shared = wanted().chain(plaintext::FIELDS).filter(|field| probes::SHARED_FIELDS.contains(&field.global));
    shared.chain(probes::FIELDS)
}
