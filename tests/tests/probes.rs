//! The programs of the probes and this kernel's verifier.

use std::path::Path;

use auditor::kernel::{
    layout::{self, KERNEL_BTF},
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
    let object = object::of_hook(Hook::Kprobe).expect("the object is embedded: run `cargo xtask build-ebpf`");
    let options = Options {
        ring_bytes: 256 * 1024,
        request_head_bytes: 16 * 1024,
        response_head_bytes: 4 * 1024,
        offsets: layout::for_probes(Path::new(KERNEL_BTF)).expect("this kernel has BTF").offsets().to_vec(),
    };
    let (programs, _ring) = loader::load(object, Hook::Kprobe, &options).unwrap_or_else(|error| panic!("{error}"));
    let counts = programs.verified_instructions();
    assert_eq!(counts.len(), 4);
    assert!(counts.iter().all(|(_, count)| count.is_some_and(|count| count < MOST)), "{counts:?}");
}
