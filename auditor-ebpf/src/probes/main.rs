//! Probes on the functions through which processes send, read and close TCP sockets, for nodes where the packets cannot be seen: by
//! fentry and fexit, else by kprobe and kretprobe, else on the system calls themselves. An object of its own, so that nothing of it is loaded where it is not needed. The
//! programs copy heads within a budget and count what they lose; they change nothing.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod buffers;
mod calls;
#[path = "../clamp.rs"]
mod clamp;
#[path = "../descriptor.rs"]
mod descriptor;
mod emit;
mod globals;
mod hooks;
mod maps;
#[path = "../packet.rs"]
#[expect(dead_code, reason = "there are no packets here")]
mod packet;
#[path = "../read.rs"]
mod read;
#[path = "../registers.rs"]
#[expect(dead_code, reason = "the registers come with the tracepoint")]
mod registers;
#[path = "../sniff.rs"]
#[expect(dead_code, reason = "here the bytes are in the process' memory")]
mod sniff;
mod socket;
mod tls;
mod transfer;
#[path = "../volatile.rs"]
mod volatile;

/// The programs cannot panic; should one ever try, the verifier refuses the endless loop at load: loud, not undefined.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// The helpers that read memory are for GPL-compatible programs.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
