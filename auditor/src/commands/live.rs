//! Opening live capture: what the kernel lets us have, and what is told when it does not.

use std::{fs::File, os::fd::AsFd, path::Path};

use auditor_wire::segment::Timestamp;

use super::{Failure, stages};
use crate::{
    attribution::{Attributor, Sources},
    capture::ring::RingSource,
    config::Config,
    kernel::{
        cgroup::{self, CgroupRoot},
        layout::{self, KERNEL_BTF, Layout},
        loader::{self, LoadError, Options},
        object,
        probe::Capabilities,
    },
};

/// Live capture, attached.
pub(super) struct Live {
    /// The source.
    pub(super) ring: RingSource,
    /// It knows the sockets that exist already.
    pub(super) attributor: Attributor,
    /// Containers are looked up in it for as long as capture goes on.
    pub(super) root: CgroupRoot,
}

const DOCTOR: &str = "`auditor doctor` says what is missing; `auditor replay` works without";

/// Loads and attaches the programs.
pub(super) fn open(config: &Config) -> Result<Live, Failure> {
    let Some(object) = object::object() else {
        return Err(Failure::Unsupported(
            "this auditor was built without its eBPF object and cannot capture live; build it with `cargo xtask build`, \
             or replay a capture file"
                .to_owned(),
        ));
    };
    let root = cgroup::find().map_err(|error| Failure::Unsupported(format!("no cgroup2: {error}; {DOCTOR}")))?;
    tracing::info!("{}", root.note());
    let layout = layout(Path::new(KERNEL_BTF));
    let options = Options {
        ring_bytes: config.capture.ring_bytes,
        request_head_bytes: config.capture.request_head_bytes,
        response_head_bytes: config.capture.response_head_bytes,
        offsets: layout.offsets().to_vec(),
    };
    let (mut programs, ring) = loader::load(object, &options).map_err(|error| refused(&error))?;
    let directory = root.as_fd().try_clone_to_owned().map(File::from);
    let directory = directory.map_err(|source| Failure::System { action: "open the cgroup again", source })?;
    programs.attach(&directory).map_err(|error| refused(&error))?;
    let same_pid_namespace = Capabilities::read().initial_pid_namespace.is_yes();
    let sources = Sources::of_system(Some(root.path().to_owned()), same_pid_namespace);
    let mut attributor = Attributor::new(stages::node_networks(config), sources);
    match programs.list_sockets() {
        Ok(rows) => attributor.existing(&rows, now()),
        Err(error) => tracing::warn!(%error, "sockets that exist already are looked up with sock_diag instead"),
    }
    Ok(Live { ring: RingSource::new(programs, ring), attributor, root })
}

fn now() -> Timestamp {
    let nanoseconds = jiff::Timestamp::now().as_nanosecond();
    Timestamp(u64::try_from(nanoseconds).unwrap_or(0))
}

/// Where the kernel's struct members are. Without them capture goes on, and senders stay unnamed.
fn layout(btf: &Path) -> Layout {
    let layout = layout::from_file(btf).unwrap_or_else(|error| {
        tracing::warn!(%error, "senders cannot be named by the kernel");
        Layout::absent()
    });
    for loss in layout.losses() {
        tracing::warn!(?loss, "this kernel does not show everything");
    }
    layout
}

fn refused(error: &LoadError) -> Failure {
    Failure::Unsupported(format!("{error}; {DOCTOR}"))
}
