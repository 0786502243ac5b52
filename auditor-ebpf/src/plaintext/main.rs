//! Uprobes on TLS libraries: what a process reads and writes inside TLS. An object of its own, so that nothing of it is loaded
//! unless plaintext was asked for. The programs copy heads within a budget and count what they lose; they change nothing.
//!
//! Registers are those of x86_64; the loader refuses to run them elsewhere.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod carry;
#[path = "../clamp.rs"]
mod clamp;
#[path = "../descriptor.rs"]
mod descriptor;
#[path = "../frames.rs"]
mod frames;
mod globals;
mod go;
mod http2;
mod kernel;
mod libraries;
mod maps;
#[path = "../memory.rs"]
mod memory;
#[path = "../numbers.rs"]
mod numbers;
#[path = "../packet.rs"]
#[expect(dead_code, reason = "the headers of packets are of no use here")]
mod packet;
#[path = "../read.rs"]
mod read;
#[path = "../registers.rs"]
mod registers;
#[path = "../sniff.rs"]
#[expect(dead_code, reason = "here the bytes are in the process' memory")]
mod sniff;
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
