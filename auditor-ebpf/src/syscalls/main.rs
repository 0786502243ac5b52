//! The exit of system calls: what processes read from and write to `AF_UNIX` sockets. An object of its own, because a tracepoint
//! of system calls slows every call of every process: nothing of it is loaded unless asked for. The program copies heads within a
//! budget and counts what it loses; it changes nothing.
//!
//! Only the sockets of servers are looked at: those that were accepted. There the request is always read before its response is
//! written, so that the order of the records is that of the conversation.
//!
//! Registers and numbers of calls are those of x86_64; the loader refuses to run it elsewhere.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod call;
mod carry;
#[path = "../clamp.rs"]
mod clamp;
#[path = "../descriptor.rs"]
mod descriptor;
mod globals;
mod maps;
#[path = "../memory.rs"]
mod memory;
#[path = "../numbers.rs"]
mod numbers;
#[path = "../packet.rs"]
#[expect(dead_code, reason = "the headers of packets are of no use here")]
mod packet;
mod peer;
#[path = "../read.rs"]
mod read;
#[path = "../registers.rs"]
#[expect(dead_code, reason = "the registers come with the tracepoint")]
mod registers;
#[path = "../sniff.rs"]
#[expect(dead_code, reason = "here the bytes are in the process' memory")]
mod sniff;

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;

use crate::{call::Call, registers::Registers};

/// What a tracepoint gives a program: its arguments, a word each (include/trace/events/syscalls.h).
#[repr(C)]
struct Context {
    registers: *const Registers,
    result: i64,
}

/// The kernel's types let the verifier check loads from the registers.
#[unsafe(no_mangle)]
#[unsafe(link_section = "tp_btf/sys_exit")]
extern "C" fn sys_exit(context: *const Context) -> i32 {
    // SAFETY: the context the kernel gives; the verifier knows its layout, and that of the registers.
    unsafe {
        let registers = (*context).registers;
        let result = (*context).result;
        let number = core::ptr::read_volatile(&raw const (*registers).orig_ax);
        if call::is_wanted(number, result) {
            let first = core::ptr::read_volatile(&raw const (*registers).di);
            let second = core::ptr::read_volatile(&raw const (*registers).si);
            let third = core::ptr::read_volatile(&raw const (*registers).dx);
            let fourth = core::ptr::read_volatile(&raw const (*registers).r10);
            call::ended(&Call { number, first, second, third, fourth, result: result as u64 });
        }
    }
    0
}

/// The same where the verifier does not know the types: the registers are read through the probe helper.
#[unsafe(no_mangle)]
#[unsafe(link_section = "raw_tp/sys_exit")]
extern "C" fn sys_exit_raw(context: *const Context) -> i32 {
    // SAFETY: as above; the helper checks the address and fills the value or zeroes it.
    unsafe {
        let result = (*context).result;
        if result < 0 {
            return 0;
        }
        let mut registers = core::mem::MaybeUninit::<Registers>::zeroed();
        let size = size_of::<Registers>() as u32;
        bpf_probe_read_kernel(registers.as_mut_ptr().cast(), size, (*context).registers.cast::<c_void>());
        let registers = registers.assume_init_ref();
        if call::is_wanted(registers.orig_ax, result) {
            let Registers { di: first, si: second, dx: third, r10: fourth, orig_ax: number, .. } = *registers;
            call::ended(&Call { number, first, second, third, fourth, result: result as u64 });
        }
    }
    0
}

/// The program cannot panic; should it ever try, the verifier refuses the endless loop at load: loud, not undefined.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// The helpers that read memory are for GPL-compatible programs.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
