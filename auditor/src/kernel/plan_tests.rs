use super::*;
use crate::kernel::probe::tests::capable;

fn no(reason: &str) -> Answer {
    Answer::No(reason.into())
}

/// The steps of the plan, and the hooks that are passed over with a word of the reason.
fn planned(capabilities: &Capabilities, choice: Choice) -> String {
    let passed = |passed: &[(Hook, String)]| {
        passed.iter().map(|(hook, reason)| format!(" -{hook}({reason})")).collect::<String>()
    };
    match HookPlan::of(capabilities, choice) {
        Ok(plan) => {
            let steps: Vec<&str> = plan.steps.iter().map(|hook| hook.as_str()).collect();
            steps.join(" ") + &passed(&plan.passed_over)
        }
        Err(NoPlan(reasons)) => format!("none{}", passed(&reasons)),
    }
}

type Change = fn(&mut Capabilities);

fn without(capabilities: &mut Capabilities, bits: &[u32]) {
    capabilities.effective = Some(bits.iter().fold(0x1ff_ffff_ffff, |set, bit| set & !(1 << bit)));
}

#[test]
fn each_system_has_its_plan() {
    let cases: [(&str, Change, &str); 20] = [
        ("Debian 5.10, 6.1 and 6.12, nothing tried yet", |_| {}, "cgroup fentry kprobe syscall"),
        (
            "6.18 without kprobes, where fentry was refused",
            |c| {
                c.kernel = "6.18.44".into();
                c.kprobe = no("no kprobe events");
                c.fentry = no("EPERM");
            },
            "cgroup syscall -fentry(EPERM) -kprobe(no kprobe events)",
        ),
        (
            "the version alone says nothing",
            |c| c.kernel = "4.18.0-553.el8_10.x86_64".into(),
            "cgroup fentry kprobe syscall",
        ),
        (
            "no BTF",
            |c| {
                c.btf = no("absent");
                c.probe_layout = no("absent");
                c.call_layout = no("absent");
            },
            "cgroup -fentry(absent) -kprobe(absent) -syscall(absent)",
        ),
        ("no cgroup2", |c| c.cgroup2 = no("none mounted"), "fentry kprobe syscall -cgroup(none mounted)"),
        (
            "cgroup2 could not be looked for",
            |c| c.cgroup2 = Answer::Unknown("?".into()),
            "cgroup fentry kprobe syscall",
        ),
        (
            "programs of cgroups are not in the kernel",
            |c| c.cgroup_skb = no("EINVAL"),
            "fentry kprobe syscall -cgroup(EINVAL)",
        ),
        (
            "a container that sees a part of the tree",
            |c| {
                c.cgroup2 = no("only a part of the tree is visible");
                c.cgroup2_part = true;
                c.initial_cgroup_namespace = no("another");
                c.initial_pid_namespace = no("another");
            },
            "fentry kprobe cgroup syscall",
        ),
        (
            "the same without any privilege",
            |c| {
                c.cgroup2_part = true;
                c.effective = Some(0);
            },
            "none -fentry(this process does not have CAP_BPF) -kprobe(this process does not have CAP_BPF) \
             -cgroup(this process does not have CAP_BPF) -syscall(this process does not have CAP_BPF)",
        ),
        (
            "lockdown in confidentiality mode",
            |c| c.lockdown = Lockdown::Confidentiality,
            "cgroup -fentry(the kernel is locked down in confidentiality mode and does not let programs read its memory) \
             -kprobe(the kernel is locked down in confidentiality mode and does not let programs read its memory) \
             -syscall(the kernel is locked down in confidentiality mode and does not let programs read its memory)",
        ),
        ("lockdown in integrity mode", |c| c.lockdown = Lockdown::Integrity, "cgroup fentry kprobe syscall"),
        (
            "lockdown that cannot be read",
            |c| c.lockdown = Lockdown::Unknown("?".into()),
            "cgroup fentry kprobe syscall",
        ),
        (
            "no CAP_NET_ADMIN",
            |c| without(c, &[12]),
            "fentry kprobe syscall -cgroup(this process does not have CAP_NET_ADMIN)",
        ),
        (
            "no CAP_PERFMON",
            |c| without(c, &[38, 21]),
            "cgroup -fentry(this process does not have CAP_PERFMON) -kprobe(this process does not have CAP_PERFMON) \
             -syscall(this process does not have CAP_PERFMON)",
        ),
        ("neither CAP_SYS_PTRACE nor CAP_SYS_RESOURCE", |c| without(c, &[19, 24]), "cgroup fentry kprobe syscall"),
        (
            "nothing but system calls",
            |c| {
                c.cgroup_skb = no("EINVAL");
                c.fentry = no("EPERM");
                c.kprobe = no("no kprobe events");
            },
            "syscall -cgroup(EINVAL) -fentry(EPERM) -kprobe(no kprobe events)",
        ),
        (
            "no message iterator in BTF",
            |c| c.probe_layout = no("absent"),
            "cgroup syscall -fentry(absent) -kprobe(absent)",
        ),
        ("tracepoints that are refused", |c| c.syscall = no("EPERM"), "cgroup fentry kprobe -syscall(EPERM)"),
        (
            "another instruction set",
            |c| c.architecture = "aarch64",
            "cgroup fentry kprobe -syscall(system calls are read on x86_64 alone, and this is aarch64)",
        ),
        ("capabilities that cannot be read", |c| c.effective = None, "cgroup fentry kprobe syscall"),
    ];
    for (name, change, expected) in cases {
        let mut capabilities = capable();
        change(&mut capabilities);
        assert_eq!(planned(&capabilities, Choice::Auto), expected, "{name}");
    }
}

#[test]
fn cap_bpf_is_not_missing_where_cap_sys_admin_is_there() {
    let mut capabilities = capable();
    without(&mut capabilities, &[39, 38]);
    assert_eq!(planned(&capabilities, Choice::Auto), "cgroup fentry kprobe syscall");
    without(&mut capabilities, &[39, 38, 21]);
    assert!(planned(&capabilities, Choice::Auto).starts_with("none"));
}

#[test]
fn a_hook_that_is_asked_for_is_the_only_one() {
    let mut capabilities = capable();
    for hook in Hook::ALL {
        assert_eq!(planned(&capabilities, Choice::Only(hook)), hook.as_str());
    }
    capabilities.kprobe = no("no kprobe events");
    let error = HookPlan::of(&capabilities, Choice::Only(Hook::Kprobe)).expect_err("it is known not to work");
    assert_eq!(error.to_string(), "no hook can capture here (kprobe: no kprobe events)");
    // A part of the tree is taken where it is asked for.
    (capabilities.cgroup2, capabilities.cgroup2_part) = (no("a part"), true);
    assert_eq!(planned(&capabilities, Choice::Only(Hook::Cgroup)), "cgroup");
}

#[test]
fn names_lead_to_choices_and_back() {
    for name in Choice::NAMES {
        assert_eq!(Choice::named(name).map(Choice::as_str), Some(name));
    }
    assert_eq!(Choice::named("Cgroup"), None);
    for hook in Hook::ALL {
        assert!(hook.misses().ends_with('.') && !hook.attaches_to().is_empty());
    }
}
