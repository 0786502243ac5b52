//! Writes one record into the ring.

use core::mem::MaybeUninit;

use auditor_abi::{
    counters,
    record::{
        EGRESS, MARK_FRESH, MARK_GAP, MARK_MUTED, MARK_SAMPLED, PASSED_DOUBTFUL, PASSED_REQUEST, PAYLOAD_CLASSES,
        RecordHeader, TLS_HEADERS_OF_PACKET, TlsHeader,
    },
};
use aya_ebpf::{
    bindings::{__sk_buff, BPF_RB_NO_WAKEUP, bpf_sock},
    helpers::generated::{bpf_ktime_get_ns, bpf_skb_load_bytes},
};

use crate::{
    clamp::clamp,
    maps::{Found, RECORDS, Socket, count_loss},
    packet::{Headers, V4_MAPPED},
    thin,
};

/// A record of one capacity. The ring's memory is not cleared: only `captured` bytes of the payload mean anything.
#[repr(C)]
struct Record<const CAPACITY: usize> {
    header: RecordHeader,
    payload: [u8; CAPACITY],
}

/// What a record is made of.
pub struct Observed<'a> {
    pub skb: *mut __sk_buff,
    pub sk: *mut bpf_sock,
    pub headers: &'a Headers,
    pub direction: u8,
    pub class: u8,
    /// What was passed over; `None` in programs that pass nothing over.
    pub thinned: Option<&'a Thinned>,
}

/// What was passed over of a socket, as [`crate::thin`] has it.
pub struct Thinned {
    /// Whether it is said with this packet.
    pub tells: bool,
    /// [`auditor_abi::record::PassedOver::calls`].
    pub passed: u32,
    /// [`auditor_abi::record::PassedOver::next_other`].
    pub next_other: u32,
    /// [`thin::DOUBT`], [`thin::REQUEST`].
    pub how: u32,
}

/// Writes a record with up to `wanted` bytes of the packet's payload, in the smallest capacity that holds them, or with the
/// TLS record headers that were `found`. The header is made once, on the stack, and not in each capacity's memory: five copies of that code would be
/// walked by the verifier on every path.
#[inline(always)]
pub fn emit(observed: &Observed<'_>, socket: &mut Socket, wanted: u32, found: u32) {
    let mut header = MaybeUninit::<RecordHeader>::uninit();
    // SAFETY: a place on the stack, aligned as its type.
    unsafe { fill(header.as_mut_ptr(), observed, socket) };
    // SAFETY: filled in; integers and byte arrays have no invalid values.
    let header = unsafe { header.assume_init_mut() };
    let half = usize::from(observed.direction != EGRESS);
    let tells = match observed.thinned {
        Some(thinned) if thinned.tells => {
            if socket.halves[1 - half].gap != 0 {
                header.marks |= MARK_GAP;
            }
            // SAFETY: the name's place is aligned to 8; volatile, or the compiler would make a call of it.
            unsafe { say_passed_over(header, thinned) };
            true
        }
        _ => false,
    };
    let status = if found > 0 {
        write_found(header, &socket.halves[half].walk.found)
    } else if wanted == 0 {
        write::<8>(observed, header, 0)
    } else if wanted < PAYLOAD_CLASSES[0] as u32 {
        write::<{ PAYLOAD_CLASSES[0] }>(observed, header, wanted)
    } else if wanted < PAYLOAD_CLASSES[1] as u32 {
        write::<{ PAYLOAD_CLASSES[1] }>(observed, header, wanted)
    } else if wanted < PAYLOAD_CLASSES[2] as u32 {
        write::<{ PAYLOAD_CLASSES[2] }>(observed, header, wanted)
    } else {
        write::<{ PAYLOAD_CLASSES[3] }>(observed, header, wanted)
    };
    socket.halves[half].gap = u32::from(status != WRITTEN);
    if tells {
        // It speaks for both directions.
        socket.halves[1 - half].gap = u32::from(status != WRITTEN);
    }
    if status != WRITTEN {
        count_loss(status);
    }
}

/// Status of [`write`]; otherwise the counter of the loss.
const WRITTEN: u32 = counters::COUNT;

#[inline(always)]
fn write<const CAPACITY: usize>(observed: &Observed<'_>, header: &mut RecordHeader, wanted: u32) -> u32 {
    let Some(mut entry) = RECORDS.reserve::<Record<CAPACITY>>(0) else {
        return counters::LOST_RING_FULL;
    };
    let record = entry.as_mut_ptr();
    let mut captured = 0;
    if wanted > 0 {
        captured = clamp::<CAPACITY>(wanted);
        // SAFETY: `captured` is at most CAPACITY - 1, and the helper checks the packet's bounds.
        let status = unsafe {
            let payload = (&raw mut (*record).payload).cast();
            bpf_skb_load_bytes(observed.skb.cast(), observed.headers.payload_offset, payload, captured as u32)
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

/// Writes a record with TLS record headers.
#[inline(always)]
fn write_found(header: &mut RecordHeader, found: &Found) -> u32 {
    const BYTES: usize = TLS_HEADERS_OF_PACKET * size_of::<TlsHeader>();
    let Some(mut entry) = RECORDS.reserve::<Record<BYTES>>(0) else {
        return counters::LOST_RING_FULL;
    };
    let record = entry.as_mut_ptr();
    header.captured = found.count * size_of::<TlsHeader>() as u32;
    // SAFETY: the reserved memory begins with a header, after which all that can be found fits. Volatile, or the words would be
    // copied by a call.
    unsafe {
        copy_header(header, record.cast());
        let words = (&raw mut (*record).payload).cast::<u64>();
        for (index, word) in found.headers.iter().enumerate() {
            words.add(index).write_volatile(*word);
        }
    }
    entry.submit(u64::from(BPF_RB_NO_WAKEUP));
    WRITTEN
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

/// Fills the header in, but for `captured`.
///
/// # Safety
/// `header` must be writable and aligned.
#[inline(always)]
unsafe fn fill(header: *mut RecordHeader, observed: &Observed<'_>, socket: &Socket) {
    let Headers { source, destination, source_port, destination_port, .. } = *observed.headers;
    let egress = observed.direction == EGRESS;
    let half = usize::from(!egress);
    // The flags are 0 or 1 each.
    let muted = (socket.quiet[0] & socket.quiet[1]) as u8;
    let marks = socket.fresh as u8 * MARK_FRESH | socket.halves[half].gap as u8 * MARK_GAP | muted * MARK_MUTED;
    // SAFETY: the caller's promise; `sk` is a full socket and `skb` the context, whose fields the verifier checks; the
    // header's arrays are 8-aligned.
    unsafe {
        let sk = observed.sk;
        (*header).time_ns = bpf_ktime_get_ns();
        (*header).cookie = socket.cookie;
        (*header).cgroup_id = socket.cgroup_id;
        (*header).owner_start_ns = socket.owner_start_ns;
        (*header).owner_tgid = socket.owner_tgid;
        (*header).sequence = observed.headers.sequence;
        (*header).length = observed.headers.payload_length;
        (*header).captured = 0;
        (*header).netns = socket.netns;
        (*header).wire_local_port = if egress { source_port } else { destination_port };
        (*header).wire_remote_port = if egress { destination_port } else { source_port };
        (*header).socket_local_port = (*sk).src_port as u16;
        (*header).socket_remote_port = u16::from_be((*sk).dst_port);
        store(&raw mut (*header).wire_local, if egress { source } else { destination });
        store(&raw mut (*header).wire_remote, if egress { destination } else { source });
        if (*sk).family == AF_INET {
            store(&raw mut (*header).socket_local, [0, 0, V4_MAPPED, (*sk).src_ip4]);
            store(&raw mut (*header).socket_remote, [0, 0, V4_MAPPED, (*sk).dst_ip4]);
        } else {
            let local = [(*sk).src_ip6[0], (*sk).src_ip6[1], (*sk).src_ip6[2], (*sk).src_ip6[3]];
            let remote = [(*sk).dst_ip6[0], (*sk).dst_ip6[1], (*sk).dst_ip6[2], (*sk).dst_ip6[3]];
            store(&raw mut (*header).socket_local, local);
            store(&raw mut (*header).socket_remote, remote);
        }
        (&raw mut (*header).owner_comm).cast::<[u64; 2]>().write(socket.owner_comm);
        (*header).direction = observed.direction;
        (*header).class = observed.class;
        (*header).tcp_flags = observed.headers.flags;
        (*header).marks = marks;
    }
}

/// Says what was passed over, in the place of the owner's name.
///
/// # Safety
/// Places in the header must be writable and aligned as its type says.
#[inline(always)]
unsafe fn say_passed_over(header: &mut RecordHeader, thinned: &Thinned) {
    header.owner_tgid = 0;
    header.owner_start_ns = 0;
    header.marks |= MARK_SAMPLED;
    let doubt = if thinned.how & thin::DOUBT != 0 { PASSED_DOUBTFUL } else { 0 };
    let request = if thinned.how & thin::REQUEST != 0 { PASSED_REQUEST } else { 0 };
    let words = [thinned.passed, thinned.next_other, doubt | request, 0];
    // SAFETY: the caller's promise.
    unsafe { store(&raw mut header.owner_comm, words) };
}

/// `AF_INET` (include/linux/socket.h).
const AF_INET: u32 = 2;

/// Writes an address as four words.
///
/// # Safety
/// `at` must be writable; addresses in the header are 8-aligned.
#[inline(always)]
unsafe fn store(at: *mut [u8; 16], words: [u32; 4]) {
    // SAFETY: the caller's promise.
    unsafe { core::ptr::write_volatile(at.cast::<[u32; 4]>(), words) };
}
