//! The programs of the probes and this kernel's verifier.

use std::path::Path;

use auditor::kernel::{
    layout::{self, KERNEL_BTF, Layout},
    loader::{self, Options},
    object,
    plan::Hook,
};

/// Instructions a verifier may walk through for one program; a million are allowed and older ones walk
/// through more than newer ones.
const MOST: u32 = 100_000;

/// Programs of kprobes are of the kind that uprobes are, too: they load where the kernel has no kprobes to attach them to.
#[test]
fn the_programs_of_kprobes_load_and_are_no_burden_to_the_verifier() {
    load(Hook::Kprobe, &layout::for_probes(Path::new(KERNEL_BTF)).expect("this kernel has BTF"), 4);
}

#[test]
fn the_programs_of_system_calls_load_and_are_no_burden_to_the_verifier() {
    load(Hook::Syscall, &layout::for_calls(Path::new(KERNEL_BTF)).expect("this kernel has BTF"), 3);
}

fn load(hook: Hook, layout: &Layout, programs: usize) {
    let object = object::of_hook(hook).expect("the object is embedded: run `cargo xtask build-ebpf`");
    let options = Options {
        ring_bytes: 256 * 1024,
        request_head_bytes: 16 * 1024,
        response_head_bytes: 4 * 1024,
        offsets: layout.offsets().to_vec(),
        samples: false,
    };
    let (loaded, _ring) = loader::load(object, hook, &options).unwrap_or_else(|error| panic!("{error}"));
    let counts = loaded.verified_instructions();
    assert_eq!(counts.len(), programs);
    assert!(counts.iter().all(|(_, count)| count.is_some_and(|count| count < MOST)), "{counts:?}");
}
