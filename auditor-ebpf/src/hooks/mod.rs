//! One thin wrapper per kernel hook.

mod cgroup;
mod sockets;
