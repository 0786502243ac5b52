//! Kernel programs of the Zero Trust Auditor: thin hooks over inlined bodies. They sniff, copy within a budget and count
//! what they lose; they never interpret, block, drop or change anything, and always let the packet pass.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod clamp;
mod emit;
mod frames;
mod globals;
mod hooks;
mod http2;
mod maps;
mod observe;
mod owner;
mod packet;
mod read;
mod sniff;
mod thin;
mod tls;
mod volatile;

/// The programs cannot panic; should one ever try, the verifier refuses the endless loop at load: loud, not undefined.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// The helpers that read kernel memory are for GPL-compatible programs.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
