//! Any bytes as BTF: no panic, bounded work, and an answer for every offset global.
#![no_main]

use auditor::kernel::{btf::Btf, layout};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(btf) = Btf::parse(bytes) {
        let layout = layout::resolve(&btf);
        assert_eq!(layout.offsets().len(), layout::Layout::absent().offsets().len());
        let _ = btf.arity("tcp_sendmsg");
        let _ = btf.enumerator("ITER_UBUF");
    }
});
