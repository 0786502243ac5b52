//! The eBPF object inside this binary; `build.rs` says where it comes from. It may not load or interpret it.

use super::plan::Hook;

/// ELF readers cast into the bytes, so they must start where a 64-bit word may.
#[repr(C, align(8))]
struct Aligned<T: ?Sized>(T);

static OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/auditor.bpf.o")));
static PLAINTEXT: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/plaintext.bpf.o")));
static SYSCALLS: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/syscalls.bpf.o")));
static PROBES: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/probes.bpf.o")));

/// The eBPF object, 8-byte aligned; `None` when this binary was built without one, and so cannot capture live.
#[must_use]
pub fn object() -> Option<&'static [u8]> {
    (!OBJECT.0.is_empty()).then_some(&OBJECT.0)
}

/// The object with the programs of a hook, likewise.
#[must_use]
pub fn of_hook(hook: Hook) -> Option<&'static [u8]> {
    match hook {
        Hook::Cgroup => object(),
        Hook::Fentry | Hook::Kprobe | Hook::Syscall => probes(),
    }
}

/// The object of TLS plaintext, likewise.
#[must_use]
pub fn plaintext() -> Option<&'static [u8]> {
    (!PLAINTEXT.0.is_empty()).then_some(&PLAINTEXT.0)
}

/// The object of system calls, likewise.
#[must_use]
pub fn syscalls() -> Option<&'static [u8]> {
    (!SYSCALLS.0.is_empty()).then_some(&SYSCALLS.0)
}

/// The object of the probes on the kernel's functions and on system calls, likewise.
#[must_use]
pub fn probes() -> Option<&'static [u8]> {
    (!PROBES.0.is_empty()).then_some(&PROBES.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_embedded_object_is_an_aligned_elf_file() {
        let objects =
            [(&OBJECT.0, object()), (&PLAINTEXT.0, plaintext()), (&SYSCALLS.0, syscalls()), (&PROBES.0, probes())];
        for (embedded, object) in objects {
            assert_eq!(embedded.as_ptr().align_offset(8), 0, "the object is not 8-byte aligned");
            if let Some(object) = object {
                assert_eq!(object.get(..4), Some(b"\x7fELF".as_slice()));
            }
        }
    }
}
