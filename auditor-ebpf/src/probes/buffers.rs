//! Where the bytes of a transfer lie: `struct iov_iter` (include/linux/uio.h), whose layout and kinds differ from kernel to kernel, or
//! what a system call was given. The array of a scattered transfer was copied into kernel memory, but for system calls; what it points
//! at is the process'.

use core::{ffi::c_void, mem::MaybeUninit};

use auditor_abi::layout::ABSENT;
use aya_ebpf::helpers::generated::{bpf_probe_read_kernel, bpf_probe_read_user};

use crate::{globals, read};

/// Buffers that are looked at.
pub const MOST: u64 = 6;

/// Entries of a system call's array whose lengths are summed up: with more, the transfer looks shorter than it is, and what follows it
/// shows that bytes are missing.
const SUMMED: u64 = 32;

/// The bytes are not in the process' memory (pages of a file, a pipe, the kernel's own): they are not read.
const ELSEWHERE: u32 = 0;
/// One buffer.
const ONE: u32 = 1;
/// An array of them.
const SEVERAL: u32 = 2;

/// The buffers of a transfer.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Buffers {
    kind: u32,
    /// Entries of the array.
    entries: u32,
    /// The buffer, or the array.
    pointer: u64,
    /// Bytes of the first buffer that are passed over.
    skip: u64,
    /// Bytes of all of them.
    pub count: u64,
}

impl Buffers {
    /// The buffers of a message (`struct msghdr`).
    #[inline(always)]
    pub fn of_message(message: u64) -> Self {
        let offset = globals::load(&globals::OFF_MSG_ITER);
        let iterator = message.wrapping_add(u64::from(offset));
        let kind: u32 = read::member(iterator, &globals::OFF_ITER_TYPE);
        let kind = kind & globals::load(&globals::ITER_MASK);
        let mut buffers = Self {
            kind: ELSEWHERE,
            entries: 0,
            pointer: 0,
            skip: read::member(iterator, &globals::OFF_ITER_SKIP),
            count: read::member(iterator, &globals::OFF_ITER_COUNT),
        };
        let one = globals::load(&globals::KIND_UBUF);
        if one != ABSENT && kind == one {
            buffers.kind = ONE;
            buffers.pointer = read::member(iterator, &globals::OFF_ITER_UBUF);
        } else if kind == globals::load(&globals::KIND_IOVEC) {
            buffers.kind = SEVERAL;
            buffers.pointer = read::member(iterator, &globals::OFF_ITER_IOV);
            let entries: u64 = read::member(iterator, &globals::OFF_ITER_SEGS);
            buffers.entries = entries as u32;
        }
        buffers
    }

    /// The only buffer of a system call.
    #[inline(always)]
    pub fn one(pointer: u64, count: u64) -> Self {
        Self { kind: ONE, entries: 0, pointer, skip: 0, count }
    }

    /// The array of buffers of a system call. How many bytes they hold is not known; there are some where there are buffers.
    #[inline(always)]
    pub fn array(pointer: u64, entries: u64) -> Self {
        Self { kind: SEVERAL, entries: entries as u32, pointer, skip: 0, count: entries }
    }

    /// Sums up how many bytes the buffers of a system call hold.
    #[inline(always)]
    pub fn measure(&mut self) {
        let mut count = 0_u64;
        for index in 0..SUMMED {
            if index >= u64::from(self.entries) {
                break;
            }
            let [_, length]: [u64; 2] = user(self.pointer.wrapping_add(index * 16)).unwrap_or([0; 2]);
            count = count.wrapping_add(length);
        }
        self.count = count;
    }

    /// What they hold is not to be read.
    #[inline(always)]
    pub fn forget(&mut self) {
        self.kind = ELSEWHERE;
    }

    /// Whether the bytes can be read.
    #[inline(always)]
    pub fn are_readable(&self) -> bool {
        self.kind != ELSEWHERE
    }

    /// Address and length of one of the buffers; length 0 where there is none.
    #[inline(always)]
    pub fn nth(&self, index: u64) -> (u64, u64) {
        if self.kind == ONE {
            let length = if index == 0 { self.count } else { 0 };
            return (self.pointer.wrapping_add(self.skip), length);
        }
        if index >= u64::from(self.entries) {
            return (0, 0);
        }
        let entry = self.pointer.wrapping_add(index * 16);
        let [base, length]: [u64; 2] =
            if globals::load(&globals::ARRAYS_OF_PROCESS) != 0 { user(entry).unwrap_or([0; 2]) } else { kernel(entry) };
        let skip = if index == 0 { self.skip } else { 0 };
        (base.wrapping_add(skip), length.saturating_sub(skip))
    }

    /// The first buffer that holds anything; the first of an HTTP client's may be empty.
    #[inline(always)]
    pub fn first(&self) -> (u64, u64) {
        let first = self.nth(0);
        if first.1 > 0 { first } else { self.nth(1) }
    }
}

/// Reads a `T`, an integer or an array of them, from the process' memory.
#[inline(always)]
pub fn user<T: Copy>(address: u64) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the helper checks the address and fills the value or fails; any bytes make one.
    unsafe {
        if bpf_probe_read_user(value.as_mut_ptr().cast(), size_of::<T>() as u32, address as *const c_void) != 0 {
            return None;
        }
        Some(value.assume_init())
    }
}

/// Reads a `T`, an integer or an array of them, from the kernel's memory; zero when the address is bad.
#[inline(always)]
fn kernel<T: Copy>(address: u64) -> T {
    let mut value = MaybeUninit::<T>::zeroed();
    // SAFETY: the helper checks the address and writes exactly the value, on failure zeroes; any bytes make one.
    unsafe {
        bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, address as *const c_void);
        value.assume_init()
    }
}
