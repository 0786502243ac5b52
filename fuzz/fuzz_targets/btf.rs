//! Any bytes as BTF: no panic, bounded work, and an answer for every offset global.
#![no_main]

use btf::Btf;
use libfuzzer_sys::fuzz_target;

// The reader's own files: the crate they are part of would bring the whole daemon with it.
#[expect(dead_code, reason = "`doctor` also says how large the BTF is")]
#[path = "../../auditor/src/kernel/btf.rs"]
mod btf;
#[expect(dead_code, reason = "the daemon reads files and explains losses, the fuzzer gives bytes")]
#[path = "../../auditor/src/kernel/layout.rs"]
mod layout;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(btf) = Btf::parse(bytes) {
        let layout = layout::resolve(&btf);
        assert_eq!(layout.offsets().len(), layout::Layout::absent().offsets().len());
        assert!(btf.arity("tcp_sendmsg").is_none_or(|arity| arity <= usize::from(u16::MAX)));
        assert_eq!(btf.enumerator("ITER_UBUF"), btf.enumerator("ITER_UBUF"));
    }
});
