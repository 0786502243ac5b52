//! The kernel as the auditor finds it: what it can do, where its struct members are, where its cgroup2 tree is.

pub mod btf;
pub mod cgroup;
mod hooks;
pub mod layout;
pub mod loader;
pub mod object;
pub mod plaintext;
pub mod plan;
pub mod probe;
mod sampling;
pub mod syscalls;

#[cfg(test)]
mod btf_tests;
