//! Follows the records of a TLS connection behind the bytes that are copied: their headers, until enough of them have passed to tell
//! what became of the handshake. It reads record lengths to find the next header, and nothing else.
//!
//! Sends and reads come in order: where one is not where the last ended, what lies between was not seen, and the place is lost.

use core::mem::MaybeUninit;

use auditor_abi::{
    counters,
    record::{CLASS_TLS_HEADERS, MARK_GAP, RecordHeader, TLS_COPIED, TLS_HEADERS_MAX, TLS_HEADERS_WANTED, TlsHeader},
};
use aya_ebpf::{bindings::BPF_RB_NO_WAKEUP, helpers::generated::bpf_probe_read_user};

use crate::{
    clamp::clamp,
    emit::{Transfer, fill, name_owner},
    maps::{RECORDS, Socket, TLS, WALKS, count_loss},
    sniff,
    volatile::{get, set},
};

/// Bytes of a record header (RFC 8446 section 5.1).
const HEADER: u32 = 5;
/// Headers and buffers that are looked at in one transfer: with more, the place is lost.
const STEPS: usize = TLS_HEADERS_MAX;

/// How far the records of one direction were followed.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Walk {
    /// 1 once the direction's first byte was seen.
    pub begun: u32,
    /// The next byte of a header.
    pub next: u32,
    /// Bytes of that header that came before.
    pub held: u32,
    /// Headers that were passed.
    pub headers: u32,
    /// Those bytes, and room for what the verifier takes for possible: seven bytes read behind seven that are held.
    pub header: [u32; 4],
    /// Headers that were found in the transfer at hand. This and what follows lies here so that verifiers do not follow its values.
    pub found: u32,
    /// The buffer that is looked at.
    pub index: u32,
    /// Bytes of those before it.
    pub before: u32,
}

/// Before the first bytes.
static BEGINNING: [Walk; 2] =
    [Walk { begun: 0, next: 0, held: 0, headers: 0, header: [0; 4], found: 0, index: 0, before: 0 }; 2];

/// A record of headers.
#[repr(C)]
struct Headers {
    header: RecordHeader,
    found: [TlsHeader; TLS_HEADERS_MAX],
}

/// A connection is TLS from here on.
#[inline(always)]
pub fn begin(sk: u64, socket: &mut Socket) {
    socket.followed = TLS;
    socket.copying = [0; 2];
    let _ = WALKS.insert(&sk, &BEGINNING, 0);
}

/// The bytes that are copied of a transfer: of the hellos and, before TLS 1.3, of the certificates' beginning.
#[inline(always)]
pub fn copied(socket: &mut Socket, half: usize, sequence: u32, length: u32) -> u32 {
    if socket.done[half] != 0 {
        return 0;
    }
    if socket.copying[half] == 0 {
        socket.copying[half] = 1;
        socket.until[half] = sequence.wrapping_add(TLS_COPIED);
    }
    let left = socket.until[half].wrapping_sub(sequence);
    if left as i32 <= 0 { 0 } else { length.min(left) }
}

/// Goes from header to header through what was sent or read, and tells of those beyond the bytes that are copied.
#[inline(always)]
pub fn follow(transfer: &Transfer<'_>, socket: &mut Socket, half: usize) {
    let first = socket.until[half].wrapping_sub(TLS_COPIED);
    let Some(walks) = WALKS.get_ptr_mut(&transfer.sk) else {
        // There were too many others: nothing more is told of it.
        socket.done[half] = 1;
        return;
    };
    // SAFETY: the value lives as long as the program runs; each direction has its own.
    let walk = unsafe { &mut (*walks)[half] };
    if get(&walk.begun) == 0 {
        set(&mut walk.begun, 1);
        set(&mut walk.next, first);
    }
    let ahead = get(&walk.next).wrapping_sub(transfer.sequence);
    let behind = (ahead as i32) < 0;
    if !behind && ahead >= transfer.length {
        return;
    }
    let Some(mut entry) = RECORDS.reserve::<Headers>(0) else {
        socket.gap[half] = 1;
        return count_loss(counters::LOST_RING_FULL);
    };
    let record = entry.as_mut_ptr();
    set(&mut walk.found, 0);
    set(&mut walk.index, 0);
    set(&mut walk.before, 0);
    // SAFETY: the memory that was reserved.
    let lost = behind || unsafe { look(transfer, walk, first, (&raw mut (*record).found).cast()) };
    let count = get(&walk.found);
    if lost || get(&walk.headers) >= TLS_HEADERS_WANTED {
        socket.done[half] = 1;
        socket.quiet = socket.done[0] & socket.done[1];
    }
    if !lost && count == 0 && socket.quiet == 0 {
        return entry.discard(u64::from(BPF_RB_NO_WAKEUP));
    }
    // SAFETY: integers and byte arrays: zeroes make a header.
    let header = unsafe {
        (&raw mut (*record).header).cast::<MaybeUninit<RecordHeader>>().write(MaybeUninit::zeroed());
        &mut (*record).header
    };
    fill(header, transfer.sk, socket, transfer.direction, CLASS_TLS_HEADERS);
    name_owner(header);
    header.marks |= u8::from(lost) * MARK_GAP;
    header.sequence = transfer.sequence;
    header.length = transfer.length;
    header.captured = count * size_of::<TlsHeader>() as u32;
    socket.gap[half] = 0;
    entry.submit(u64::from(BPF_RB_NO_WAKEUP));
}

/// Looks for headers; whether the place was lost.
///
/// # Safety
/// There must be room for [`TLS_HEADERS_MAX`] of them at `found`.
#[inline(always)]
unsafe fn look(transfer: &Transfer<'_>, walk: &mut Walk, first: u32, found: *mut [u32; 3]) -> bool {
    let Transfer { sequence, length, buffers, .. } = *transfer;
    for _ in 0..STEPS {
        let (next, held) = (get(&walk.next), get(&walk.held) & 7);
        let at = next.wrapping_sub(sequence);
        if at >= length || get(&walk.headers) >= TLS_HEADERS_WANTED {
            return false;
        }
        let (index, before) = (get(&walk.index), get(&walk.before));
        let (base, room) = buffers.nth(u64::from(index));
        let into = u64::from(at.wrapping_sub(before));
        if into >= room {
            set(&mut walk.before, before.wrapping_add(room as u32));
            set(&mut walk.index, index.wrapping_add(1));
            continue;
        }
        let read = clamp::<8>(HEADER.wrapping_sub(held).min(length - at).min((room - into) as u32)) as u32;
        // SAFETY: at most 7 bytes at 7 of 16; the helper checks the process' memory.
        let status = unsafe {
            let to = (&raw mut walk.header).cast::<u8>().add(held as usize);
            bpf_probe_read_user(to.cast(), read, base.wrapping_add(into) as *const _)
        };
        set(&mut walk.held, held + read);
        set(&mut walk.next, next.wrapping_add(read));
        let (first_four, fifth) = (get(&walk.header[0]), get(&walk.header[1]) & 0xff);
        if status != 0 {
            return true;
        }
        if get(&walk.held) < HEADER {
            continue;
        }
        if !sniff::is_tls(first_four) {
            return true;
        }
        let begins = next.wrapping_sub(held);
        // Those before are among the bytes that are copied.
        if begins.wrapping_sub(first) > TLS_COPIED - HEADER {
            let count = get(&walk.found);
            // SAFETY: the caller's promise, and the mask.
            unsafe { found.add(count as usize & (TLS_HEADERS_MAX - 1)).write_volatile([begins, first_four, fifth]) };
            set(&mut walk.found, count + 1);
        }
        let body = (u32::from_be(first_four) & 0xff) << 8 | fifth;
        let after = get(&walk.next).wrapping_add(body);
        set(&mut walk.next, after);
        set(&mut walk.held, 0);
        walk.headers += 1;
    }
    true
}
