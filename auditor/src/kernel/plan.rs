//! Which hook captures: a pure function of what the system can do and what is asked for. It tries nothing and reads nothing.

use std::fmt;

use super::{
    probe::{Answer, Capabilities, Capability, Lockdown},
    syscalls::ARCHITECTURE,
};

/// A way to get at what sockets carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hook {
    /// `cgroup_skb` on the cgroup2 root: every packet.
    Cgroup,
    /// fentry and fexit of `tcp_sendmsg`, `tcp_recvmsg` and `tcp_close`.
    Fentry,
    /// kprobe and kretprobe of the same functions.
    Kprobe,
    /// Tracepoints at the entry and the exit of system calls.
    Syscall,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The first hook that works.
    #[default]
    Auto,
    /// This one or none.
    Only(Hook),
}

/// The hooks to be tried, in that order, and those that need not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookPlan {
    /// To be tried until one works; at least one.
    pub steps: Vec<Hook>,
    /// Known not to work, and why.
    pub passed_over: Vec<(Hook, String)>,
}

/// No hook can work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", said(.0))]
pub struct NoPlan(
    /// Every hook that was asked for, and why it cannot work.
    pub Vec<(Hook, String)>,
);

fn said(reasons: &[(Hook, String)]) -> String {
    let reasons: Vec<String> = reasons.iter().map(|(hook, reason)| format!("{hook}: {reason}")).collect();
    format!("no hook can capture here ({})", reasons.join("; "))
}

impl Hook {
    /// Every hook, in order of preference.
    pub const ALL: [Self; 4] = [Self::Cgroup, Self::Fentry, Self::Kprobe, Self::Syscall];

    /// Its name on the command line and in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cgroup => "cgroup",
            Self::Fentry => "fentry",
            Self::Kprobe => "kprobe",
            Self::Syscall => "syscall",
        }
    }

    /// What it attaches to.
    #[must_use]
    pub fn attaches_to(self) -> &'static str {
        match self {
            Self::Cgroup => "cgroup_skb, egress and ingress of the cgroup2 root",
            Self::Fentry => "fentry and fexit of tcp_sendmsg, tcp_recvmsg and tcp_close",
            Self::Kprobe => "kprobe and kretprobe of tcp_sendmsg, tcp_recvmsg and tcp_close",
            Self::Syscall => {
                "the tracepoints sys_enter, sys_exit and tcp_destroy_sock; every system call of the node takes longer"
            }
        }
    }

    /// What it does not see, as a sentence.
    #[must_use]
    pub fn misses(self) -> &'static str {
        match self {
            Self::Cgroup => "AF_UNIX sockets; what is inside kernel TLS.",
            Self::Fentry => {
                "requests sent with sendfile() or splice() and what is read with splice(); MPTCP; AF_UNIX sockets; kernel \
                 TLS; of HTTP/2, what stands behind 16 KB of one send or read; addresses on the wire, so both ends of a call \
                 stay two calls where both addresses are translated."
            }
            Self::Kprobe => {
                "what fentry misses, and what is read while more threads wait in tcp_recvmsg than the kernel keeps kretprobe \
                 instances for (counted as return-missed)."
            }
            Self::Syscall => {
                "what is sent or read through io_uring, sendfile(), splice(), sendmmsg() or recvmmsg(), or by 32-bit programs; MPTCP; \
                 AF_UNIX sockets; kernel TLS; of HTTP/2, what stands behind 16 KB of one send or read; addresses on the wire, so \
                 both ends of a call stay two calls where both addresses are translated."
            }
        }
    }

    /// Why it cannot work, where that is known beforehand.
    fn obstacle(self, capabilities: &Capabilities) -> Option<String> {
        let lacks = |capability| match capabilities.has(capability) {
            Answer::No(reason) => Some(reason),
            Answer::Yes | Answer::Unknown(_) => None,
        };
        lacks(Capability::Bpf).or_else(|| match self {
            Self::Cgroup => lacks(Capability::NetAdmin)
                .or_else(|| no_cgroup(capabilities))
                .or_else(|| tried(&capabilities.cgroup_skb)),
            Self::Fentry => kernel_functions(capabilities, lacks).or_else(|| tried(&capabilities.fentry)),
            Self::Kprobe => kernel_functions(capabilities, lacks).or_else(|| tried(&capabilities.kprobe)),
            Self::Syscall => system_calls(capabilities, lacks).or_else(|| tried(&capabilities.syscall)),
        })
    }
}

/// What was found out by trying.
fn tried(answer: &Answer) -> Option<String> {
    match answer {
        Answer::No(reason) => Some(reason.clone()),
        Answer::Yes | Answer::Unknown(_) => None,
    }
}

/// Why there is no cgroup2 directory to attach to, not even one that covers a part of the node.
fn no_cgroup(capabilities: &Capabilities) -> Option<String> {
    match &capabilities.cgroup2 {
        Answer::No(reason) if !capabilities.cgroup2_part => Some(reason.clone()),
        _ => None,
    }
}

/// Why the kernel's functions cannot be probed, or what they are called with cannot be read.
fn kernel_functions(capabilities: &Capabilities, lacks: impl Fn(Capability) -> Option<String>) -> Option<String> {
    no_kernel_memory(capabilities, lacks).or_else(|| tried(&capabilities.probe_layout))
}

/// Why system calls cannot be followed to sockets.
fn system_calls(capabilities: &Capabilities, lacks: impl Fn(Capability) -> Option<String>) -> Option<String> {
    no_kernel_memory(capabilities, lacks)
        .or_else(|| {
            (capabilities.architecture != ARCHITECTURE).then(|| {
                format!("system calls are read on {ARCHITECTURE} alone, and this is {}", capabilities.architecture)
            })
        })
        .or_else(|| tried(&capabilities.call_layout))
}

/// Why programs may not read the kernel's memory.
fn no_kernel_memory(capabilities: &Capabilities, lacks: impl Fn(Capability) -> Option<String>) -> Option<String> {
    lacks(Capability::Perfmon).or_else(|| {
        (capabilities.lockdown == Lockdown::Confidentiality).then(|| {
            "the kernel is locked down in confidentiality mode and does not let programs read its memory".into()
        })
    })
}

impl HookPlan {
    /// The plan for a system. A question that could not be answered is no obstacle: it is tried.
    ///
    /// # Errors
    /// When every hook that was asked for is known not to work.
    pub fn of(capabilities: &Capabilities, choice: Choice) -> Result<Self, NoPlan> {
        let mut wanted = match choice {
            Choice::Auto => Hook::ALL.to_vec(),
            Choice::Only(hook) => vec![hook],
        };
        // A part of the tree is better than nothing, and worse than whatever sees the whole node; but what slows every system call of
        // the node is the last resort.
        if capabilities.cgroup2_part {
            wanted.sort_by_key(|hook| match hook {
                Hook::Fentry | Hook::Kprobe => 0,
                Hook::Cgroup => 1,
                Hook::Syscall => 2,
            });
        }
        let mut plan = Self { steps: Vec::new(), passed_over: Vec::new() };
        for hook in wanted {
            match hook.obstacle(capabilities) {
                None => plan.steps.push(hook),
                Some(reason) => plan.passed_over.push((hook, reason)),
            }
        }
        if plan.steps.is_empty() { Err(NoPlan(plan.passed_over)) } else { Ok(plan) }
    }
}

impl Choice {
    /// Every choice's name, for messages.
    pub const NAMES: [&str; 5] = ["auto", "cgroup", "fentry", "kprobe", "syscall"];

    /// The choice of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        if name == "auto" {
            return Some(Self::Auto);
        }
        Hook::ALL.into_iter().find(|hook| hook.as_str() == name).map(Self::Only)
    }

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Only(hook) => hook.as_str(),
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
