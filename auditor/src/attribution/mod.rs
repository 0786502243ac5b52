//! Attribution: from sockets, pids and cgroups to processes, containers and workloads.

pub mod arguments;
mod cache;
pub mod container;
pub mod network;
pub mod process;
mod workload;

use crate::judgement::Party;

/// Something observed, with both ends named as far as they are known.
#[derive(Clone, Debug)]
pub struct Attributed<T> {
    /// What was observed.
    pub observed: T,
    /// Who called.
    pub source: Party,
    /// Who was called.
    pub destination: Party,
}
