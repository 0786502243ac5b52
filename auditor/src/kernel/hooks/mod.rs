//! What each hook loads and attaches. One file a kind of program; [`super::loader`] does for all of them what is alike.

pub(super) mod calls;
pub(super) mod cgroup;
pub(super) mod probes;

use super::plan::Hook;

/// The programs of a hook: those that are attached first, then those they call.
pub(super) fn programs(hook: Hook) -> &'static [&'static str] {
    match hook {
        Hook::Cgroup => &cgroup::PROGRAMS,
        Hook::Fentry => &probes::FENTRY,
        Hook::Kprobe => &probes::KPROBE,
        Hook::Syscall => &calls::PROGRAMS,
    }
}

/// Those of them that are attached.
pub(super) fn attached(hook: Hook) -> &'static [&'static str] {
    match hook {
        Hook::Cgroup => &cgroup::PROGRAMS[..cgroup::ATTACHED],
        Hook::Fentry | Hook::Kprobe | Hook::Syscall => programs(hook),
    }
}
