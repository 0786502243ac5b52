//! Writes one record into the ring.

use core::{ffi::c_void, mem::MaybeUninit};

use auditor_abi::{
    counters,
    record::{CLASS_END, EGRESS, INGRESS, MARK_FRESH, MARK_GAP, MARK_MUTED, PAYLOAD_CLASSES, RecordHeader},
};
use aya_ebpf::{
    bindings::BPF_RB_NO_WAKEUP,
    helpers::generated::{bpf_get_current_pid_tgid, bpf_get_current_task, bpf_ktime_get_ns, bpf_probe_read_user},
};

use crate::{
    buffers::{Buffers, MOST},
    clamp::clamp,
    globals,
    maps::{RECORDS, Socket, count_loss},
    packet::FIN,
    read, socket,
};

/// A record of one capacity. The ring's memory is not cleared: only `captured` bytes of the payload mean anything.
#[repr(C)]
struct Record<const CAPACITY: usize> {
    header: RecordHeader,
    payload: [u8; CAPACITY],
}

/// What a record is made of.
pub struct Transfer<'a> {
    pub sk: u64,
    pub direction: u8,
    pub sequence: u32,
    pub buffers: &'a Buffers,
    pub length: u32,
}

/// Status of the writers; otherwise the counter of the loss.
const WRITTEN: u32 = counters::COUNT;

/// Capacity of a record that several buffers are gathered in, and the room that is reserved for it: the verifier takes a buffer of
/// full length behind one of full length for possible.
const GATHERED: usize = PAYLOAD_CLASSES[1];
const GATHERED_ROOM: usize = 2 * GATHERED;
const GATHERED_LARGE: usize = PAYLOAD_CLASSES[3];
const GATHERED_LARGE_ROOM: usize = 2 * GATHERED_LARGE;

/// Writes a record with up to `wanted` bytes.
#[inline(always)]
pub fn emit(transfer: &Transfer<'_>, socket: &mut Socket, class: u8, wanted: u32) {
    let mut header = MaybeUninit::<RecordHeader>::zeroed();
    // SAFETY: integers and byte arrays: zeroes make one.
    let header = unsafe { header.assume_init_mut() };
    let half = usize::from(transfer.direction != EGRESS);
    fill(header, transfer.sk, socket, transfer.direction, class);
    name_owner(header);
    header.sequence = transfer.sequence;
    header.length = transfer.length;
    let (first, first_length) = transfer.buffers.first();
    let status = if wanted == 0 {
        write::<8>(header, 0, 0)
    } else if first_length < u64::from(wanted) {
        if wanted < GATHERED as u32 {
            gather::<GATHERED, GATHERED_ROOM>(header, transfer.buffers, wanted)
        } else {
            gather::<GATHERED_LARGE, GATHERED_LARGE_ROOM>(header, transfer.buffers, wanted)
        }
    } else if wanted < PAYLOAD_CLASSES[0] as u32 {
        write::<{ PAYLOAD_CLASSES[0] }>(header, first, wanted)
    } else if wanted < PAYLOAD_CLASSES[1] as u32 {
        write::<{ PAYLOAD_CLASSES[1] }>(header, first, wanted)
    } else if wanted < PAYLOAD_CLASSES[2] as u32 {
        write::<{ PAYLOAD_CLASSES[2] }>(header, first, wanted)
    } else {
        write::<{ PAYLOAD_CLASSES[3] }>(header, first, wanted)
    };
    settle(socket, half, status);
}

/// Says that nothing follows in a direction, once. `at` is what the kernel has as the direction's sequence number: the FIN is counted
/// in it once it was sent or read.
#[inline(always)]
pub fn end(sk: u64, socket: &mut Socket, direction: u8, at: u32) {
    let half = usize::from(direction != EGRESS);
    if socket.done[half] != 0 || socket.quiet != 0 || (socket.http == 0 && socket.followed == 0) {
        return;
    }
    socket.done[half] = 1;
    let mut header = MaybeUninit::<RecordHeader>::zeroed();
    // SAFETY: integers and byte arrays: zeroes make one.
    let header = unsafe { header.assume_init_mut() };
    fill(header, sk, socket, direction, CLASS_END);
    let next = socket.next[half];
    header.sequence = if next.wrapping_add(1) == at { next } else { at };
    header.tcp_flags = FIN;
    let status = write::<8>(header, 0, 0);
    settle(socket, half, status);
}

#[inline(always)]
fn settle(socket: &mut Socket, half: usize, status: u32) {
    socket.gap[half] = u32::from(status != WRITTEN);
    if status != WRITTEN {
        count_loss(status);
    }
}

/// The process that sends or reads. An end has none: it may be told while another process happens to run.
#[inline(always)]
pub fn name_owner(header: &mut RecordHeader) {
    // SAFETY: no arguments.
    let (task, pid_tgid) = unsafe { (bpf_get_current_task(), bpf_get_current_pid_tgid()) };
    let leader: u64 = read::member(task, &globals::OFF_TASK_LEADER);
    header.owner_tgid = (pid_tgid >> 32) as u32;
    header.owner_start_ns = read::member(leader, &globals::OFF_TASK_START);
    header.owner_comm = read::member(leader, &globals::OFF_TASK_COMM);
}

/// What every record has.
#[inline(always)]
pub fn fill(header: &mut RecordHeader, sk: u64, socket: &Socket, direction: u8, class: u8) {
    // SAFETY: no arguments.
    header.time_ns = unsafe { bpf_ktime_get_ns() };
    header.cookie = socket.cookie;
    header.cgroup_id = socket.cgroup_id;
    header.netns = socket.netns;
    socket::fill(header, sk, socket.ports);
    header.direction = direction;
    header.class = class;
    let half = usize::from(direction == INGRESS);
    // The flags are 0 or 1 each.
    header.marks =
        socket.fresh as u8 * MARK_FRESH | socket.gap[half] as u8 * MARK_GAP | socket.quiet as u8 * MARK_MUTED;
}

/// Writes a record with bytes of one buffer.
#[inline(always)]
fn write<const CAPACITY: usize>(header: &mut RecordHeader, buffer: u64, wanted: u32) -> u32 {
    let Some(mut entry) = RECORDS.reserve::<Record<CAPACITY>>(0) else { return counters::LOST_RING_FULL };
    let record = entry.as_mut_ptr();
    let mut captured = 0;
    if wanted > 0 {
        captured = clamp::<CAPACITY>(wanted);
        // SAFETY: `captured` is at most CAPACITY - 1, and the helper checks the process' memory.
        let status = unsafe {
            bpf_probe_read_user((&raw mut (*record).payload).cast(), captured as u32, buffer as *const c_void)
        };
        if status != 0 {
            entry.discard(u64::from(BPF_RB_NO_WAKEUP));
            return counters::LOST_PAYLOAD;
        }
    }
    header.captured = captured as u32;
    // SAFETY: the reserved memory begins with a header.
    unsafe { copy_header(header, record.cast()) };
    entry.submit(u64::from(BPF_RB_NO_WAKEUP));
    WRITTEN
}

/// Writes a record with bytes of several buffers. Those beyond [`MOST`], and what follows one that cannot be read, are left out: the
/// record shows that it is cut.
#[inline(always)]
fn gather<const CAPACITY: usize, const ROOM: usize>(header: &mut RecordHeader, buffers: &Buffers, wanted: u32) -> u32 {
    let Some(mut entry) = RECORDS.reserve::<Record<ROOM>>(0) else { return counters::LOST_RING_FULL };
    let record = entry.as_mut_ptr();
    // How far it is lies in the record and not on the stack, so that the verifier does not follow each length.
    // SAFETY: fields of the reserved memory.
    let (so_far, until) = unsafe { (&raw mut (*record).header.captured, &raw mut (*record).header.length) };
    // SAFETY: as above; volatile, or the compiler would keep the values.
    unsafe {
        so_far.write_volatile(0);
        until.write_volatile(wanted);
    }
    for index in 0..MOST {
        let (base, length) = buffers.nth(index);
        // SAFETY: as above.
        let (captured, until_now) = unsafe { (so_far.read_volatile(), until.read_volatile()) };
        let length = length.min(u64::from(until_now.saturating_sub(captured)));
        if length == 0 {
            continue;
        }
        let count = clamp::<CAPACITY>(length as u32);
        let at = within::<CAPACITY>(u64::from(captured));
        // SAFETY: both are at most CAPACITY - 1, and ROOM is twice that; the helper checks the process' memory.
        let failed = unsafe {
            let payload = (&raw mut (*record).payload).cast::<u8>().add(at as usize);
            bpf_probe_read_user(payload.cast(), count as u32, base as *const c_void)
        };
        // SAFETY: as above.
        unsafe {
            if failed == 0 {
                so_far.write_volatile((at + count) as u32);
            } else {
                until.write_volatile(captured);
            }
        }
    }
    // SAFETY: as above.
    let captured = unsafe { so_far.read_volatile() };
    if captured == 0 {
        entry.discard(u64::from(BPF_RB_NO_WAKEUP));
        return counters::LOST_PAYLOAD;
    }
    header.captured = captured;
    // SAFETY: the reserved memory begins with a header.
    unsafe { copy_header(header, record.cast()) };
    entry.submit(u64::from(BPF_RB_NO_WAKEUP));
    WRITTEN
}

/// `value`, which is below CAPACITY, in a way that verifiers see.
#[inline(always)]
fn within<const CAPACITY: usize>(value: u64) -> u64 {
    let mut value = value;
    // SAFETY: arithmetic on one register.
    unsafe { core::arch::asm!("{value} &= {max}", value = inout(reg) value, max = const CAPACITY - 1) };
    value
}

/// Copies the header word by word: both sides are aligned to 8.
///
/// # Safety
/// `at` must be writable and aligned.
#[inline(always)]
unsafe fn copy_header(header: &RecordHeader, at: *mut [u64; size_of::<RecordHeader>() / 8]) {
    // SAFETY: the caller's promise.
    unsafe { at.write((&raw const *header).cast::<[u64; size_of::<RecordHeader>() / 8]>().read()) };
}
