//! Finds the cgroup2 root, to which the programs are attached.
