//! Opening live capture: what the kernel lets us have, and what is told when it does not.

use std::path::Path;

use super::{Failure, stages};
use crate::{
    attribution::Attributor,
    capture::ring::RingSource,
    config::Config,
    kernel::{
        cgroup,
        layout::{self, KERNEL_BTF, Layout},
        loader::{self, LoadError, Options},
        object,
    },
};

/// Live capture, attached.
pub(super) struct Live {
    /// The source.
    pub(super) ring: RingSource,
    /// It knows the sockets that exist already.
    pub(super) attributor: Attributor,
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
    let directory = root.try_clone().map_err(|source| Failure::System { action: "open the cgroup", source })?;
    programs.attach(&directory).map_err(|error| refused(&error))?;
    let mut attributor = stages::live_attributor(config);
    match programs.list_sockets() {
        Ok(rows) => attributor.seed(&rows),
        Err(error) => tracing::warn!(%error, "sockets that exist already are looked up in procfs instead"),
    }
    Ok(Live { ring: RingSource::new(programs, ring), attributor })
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
