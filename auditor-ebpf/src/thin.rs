//! Passes over calls that repeat, where the auditor asked for that: a request that is byte for byte one that the auditor judged and
//! approved, and the response to it.
//!
//! Only a request that comes whole in one segment, like more than [`CALLS`] before it in a row, each answered by one segment of the
//! same length and status, is passed over; whatever else comes on the connection is copied. Where calls were passed over and what
//! follows does not fit that, the auditor is told so, and nothing of the connection is passed over any more.
//!
//! A program of its own, reached by a tail call while sampling is on; it goes on in a second one, which copies. Egress and ingress
//! may run at once on two processors: what is known of a connection changes in one step, under a lock.

use auditor_abi::{
    counters,
    record::{CLASS_REQUEST, CLASS_RESPONSE, EGRESS},
    repeat::{self, BYTES, CALLS, CHUNK, Hash},
};
use aya_ebpf::{
    bindings::{__sk_buff, bpf_spin_lock},
    helpers::generated::{self, bpf_ktime_get_ns},
    programs::SkBuffContext,
};

use crate::{
    globals::{self, load},
    maps::{self, Socket, THIN_EGRESS, THIN_INGRESS, count_loss},
    packet::{self, FIN, Headers, RST},
    sniff,
};

/// Index of the program that decides.
const DECIDES: u32 = 0;
/// Index of the program that copies.
const COPIES: u32 = 1;
/// Chunks of the longest request.
const CHUNKS: u32 = *BYTES.end() / CHUNK as u32;

/// [`Repeats::answers`]: one segment, which is as those before.
const ALIKE: u32 = 1;
/// [`Repeats::answers`]: anything else.
const ODD: u32 = 2;

/// [`Repeats::skipping`]: the last request was passed over and is not answered.
const ASKED: u32 = 1;
/// [`Repeats::skipping`]: the last request was passed over, and its answer.
const ANSWERED: u32 = 2;

/// [`Step::what`]: the packet is copied.
const COPY: u32 = 1;
/// Only the end of the stream is told, not the payload.
pub const BARE: u32 = 2;
/// It is said what was passed over.
pub const TELL: u32 = 4;
/// With what [`auditor_abi::record::PASSED_DOUBTFUL`] says.
pub const DOUBT: u32 = 8;
/// With what [`auditor_abi::record::PASSED_REQUEST`] says.
pub const REQUEST: u32 = 16;
/// A call more is passed over.
const COUNT: u32 = 32;
/// The request is passed over.
const SKIP: u32 = 64;
/// The connection goes back to the program that copies all.
const LEAVE: u32 = 128;

/// What is known of calls that repeat on a connection.
#[repr(C)]
pub struct Repeats {
    lock: bpf_spin_lock,
    /// Which way requests go: 0 not known, 1 out, 2 in.
    requests: u32,
    /// Hash of the last request.
    hash: u64,
    /// Bytes of the last request.
    length: u32,
    /// How many requests in a row were alike; 0: the next begins anew.
    run: u32,
    /// Sequence number behind the last byte seen, by direction.
    next: [u32; 2],
    /// 1 where that is known, by direction.
    known: [u32; 2],
    /// Segments of the response to the last request: none, [`ALIKE`] or [`ODD`].
    answers: u32,
    /// Bytes of the response to each of them; 0 unknown.
    answer_length: u32,
    /// The four bytes of those responses that hold the status code.
    answer_status: u32,
    /// [`ASKED`], [`ANSWERED`], or the last request was not passed over.
    skipping: u32,
    /// Counts calls that could be passed over.
    turn: u32,
    /// Calls passed over.
    passed: u32,
    /// How many of them the auditor was told of.
    told: u32,
    /// 1 once requests and responses did not follow each other: all is copied.
    off: u32,
}

/// A packet with payload, or that ends a stream.
struct Seen {
    half: usize,
    sequence: u32,
    length: u32,
    ends: bool,
    resets: bool,
    class: u8,
    /// The four bytes behind the eighth.
    behind: u32,
    /// Hash of a request that comes whole.
    hash: Option<u64>,
    /// Such a request was approved, if its answers have this status.
    approved: Option<u32>,
    one_of: u32,
}

/// What is done with a packet, and what is said with it.
struct Step {
    what: u32,
    passed: u32,
    next_other: u32,
}

/// Goes on with a packet in the program that decides; comes back only when that cannot be called.
#[inline(always)]
pub fn call(skb: *mut __sk_buff, direction: u8) {
    go(skb, direction, DECIDES);
}

#[inline(always)]
fn go(skb: *mut __sk_buff, direction: u8, program: u32) {
    let programs = if direction == EGRESS { &THIN_EGRESS } else { &THIN_INGRESS };
    // SAFETY: no value of the caller needs to be dropped.
    unsafe { programs.tail_call(&SkBuffContext::new(skb), program) };
    count_loss(counters::LOST_TAIL_CALL);
}

/// What the deciding program tells the one that copies: [`Step`], in the packet's control block, which the kernel keeps for it
/// (`bpf_prog_run_save_cb`, include/linux/filter.h). Not in a map: another packet may come between.
#[inline(always)]
pub fn told(skb: *mut __sk_buff) -> (u32, u32, u32) {
    // SAFETY: fields of the context.
    unsafe {
        let words = &raw const (*skb).cb;
        let word = |index| words.cast::<u32>().add(index).read_volatile();
        (word(0), word(1), word(2))
    }
}

#[inline(always)]
fn tell(skb: *mut __sk_buff, step: &Step) {
    // SAFETY: fields of the context that may be written.
    unsafe {
        let words = (&raw mut (*skb).cb).cast::<u32>();
        words.write_volatile(step.what);
        words.add(1).write_volatile(step.passed);
        words.add(2).write_volatile(step.next_other);
    }
}

/// Looks at one packet of a connection whose calls may be passed over.
#[inline(always)]
pub fn decide(skb: *mut __sk_buff, direction: u8) {
    let Some((sk, socket)) = maps::known(skb) else { return };
    let headers = match packet::headers(skb) {
        Ok(Some(headers)) => headers,
        Ok(None) => return,
        Err(()) => return count_loss(counters::LOST_HEADERS),
    };
    if headers.payload_length == 0 && headers.flags & (FIN | RST) == 0 {
        return;
    }
    let all = Step { what: COPY, passed: 0, next_other: 0 };
    let Some(repeats) = maps::repeats(sk) else {
        tell(skb, &all);
        return go(skb, direction, COPIES);
    };
    let seen = look(skb, socket, repeats, &headers, usize::from(direction != EGRESS));
    // SAFETY: the kernel keeps the value while the program runs; its lock is touched by the two helpers only, between which
    // nobody else has the rest.
    let step = unsafe {
        generated::bpf_spin_lock(&raw mut (*repeats).lock);
        let step = go_on(&mut *repeats, &seen);
        generated::bpf_spin_unlock(&raw mut (*repeats).lock);
        step
    };
    if step.what & COUNT != 0 {
        maps::count_passed_over();
    }
    if step.what & SKIP != 0 {
        // What follows it belongs to no head that was copied.
        socket.halves[0].budget = 0;
        socket.halves[1].budget = 0;
    }
    if step.what & LEAVE != 0 {
        socket.followed = 0;
    }
    if step.what & COPY != 0 {
        tell(skb, &step);
        go(skb, direction, COPIES);
    }
}

/// Reads what is asked of a packet, before the lock: helpers cannot be called under it.
#[inline(always)]
fn look(skb: *mut __sk_buff, socket: &Socket, repeats: *const Repeats, headers: &Headers, half: usize) -> Seen {
    let length = headers.payload_length;
    let (class, behind) =
        if length == 0 { (sniff::NOTHING, 0) } else { sniff::sniff(skb, headers.payload_offset, length) };
    let ends = headers.flags & (FIN | RST) != 0;
    let (one_of, withdrawals) = maps::sampling();
    let mut seen = Seen {
        half,
        sequence: headers.sequence,
        length,
        ends,
        resets: headers.flags & RST != 0,
        class,
        behind,
        hash: None,
        approved: None,
        one_of,
    };
    if class != CLASS_REQUEST || ends || length < *BYTES.start() || length > *BYTES.end() {
        return seen;
    }
    let Some(hash) = hash(skb, socket.cookie, headers.payload_offset, length) else { return seen };
    seen.hash = Some(hash);
    if one_of > 1 {
        // SAFETY: one word of the value. Should it change before the lock is taken, the approval is of none.
        let status = unsafe { (&raw const (*repeats).answer_status).read_volatile() };
        let [until, seal] = maps::approval(socket);
        // SAFETY: no arguments.
        let holds = until != 0 && unsafe { bpf_ktime_get_ns() } < until;
        if holds && repeat::seal(key(), hash, status, until, withdrawals) == seal {
            seen.approved = Some(status);
        }
    }
    seen
}

/// Takes a packet.
#[inline(always)]
fn go_on(repeats: &mut Repeats, seen: &Seen) -> Step {
    let half = seen.half;
    let what = if repeats.off != 0 { COPY } else { next(repeats, seen) };
    let step = Step { what, passed: repeats.passed, next_other: repeats.next[1 - half] };
    if what & TELL != 0 {
        repeats.told = repeats.passed;
    }
    step
}

#[inline(always)]
fn next(repeats: &mut Repeats, seen: &Seen) -> u32 {
    let half = seen.half;
    let this = 1 + half as u32;
    if seen.length == 0 {
        return end(repeats, seen.resets || repeats.requests != this);
    }
    let end = seen.sequence.wrapping_add(seen.length);
    let known = repeats.known[half] != 0;
    if known && end.wrapping_sub(repeats.next[half]) as i32 <= 0 {
        // Sent again: it was copied, or passed over.
        return if seen.ends { COPY | BARE } else { 0 };
    }
    let in_order = known && seen.sequence == repeats.next[half];
    repeats.known[half] = 1;
    repeats.next[half] = end;
    if repeats.requests == 0 {
        repeats.requests = match seen.class {
            CLASS_REQUEST => this,
            CLASS_RESPONSE => 3 - this,
            _ => return COPY,
        };
    }
    if repeats.requests == this { request(repeats, seen, in_order) } else { answer(repeats, seen, in_order) }
}

/// The end of a stream, alone. `last`: no answer follows it.
#[inline(always)]
fn end(repeats: &mut Repeats, last: bool) -> u32 {
    let tells = if repeats.skipping != 0 || repeats.passed != repeats.told { TELL } else { 0 };
    let mut counts = 0;
    if last {
        if repeats.skipping == ASKED {
            repeats.passed = repeats.passed.wrapping_add(1);
            counts = COUNT;
        }
        repeats.skipping = 0;
        repeats.run = 0;
    }
    COPY | tells | counts
}

/// Requests and answers do not follow each other: where what was passed over ends is not known.
#[inline(always)]
fn doubt(repeats: &mut Repeats) -> u32 {
    let unanswered = repeats.skipping == ASKED;
    repeats.off = 1;
    repeats.skipping = 0;
    if !unanswered {
        return COPY | TELL | DOUBT;
    }
    repeats.passed = repeats.passed.wrapping_add(1);
    COPY | TELL | DOUBT | COUNT
}

/// Takes a segment of a request.
#[inline(always)]
fn request(repeats: &mut Repeats, seen: &Seen, in_order: bool) -> u32 {
    if repeats.skipping == ASKED || (repeats.skipping == ANSWERED && !in_order) {
        return doubt(repeats);
    }
    let answered = in_order && repeats.answers == ALIKE;
    repeats.answers = 0;
    let again = answered && repeats.run > 0 && seen.length == repeats.length && seen.hash == Some(repeats.hash);
    if again {
        // It stays where it counts no more.
        repeats.run = (repeats.run + 1) & 0x7fff_ffff;
    } else {
        repeats.run = u32::from(seen.hash.is_some());
        repeats.hash = seen.hash.unwrap_or(0);
        repeats.length = seen.length;
        repeats.answer_length = 0;
    }
    if again && repeats.run > CALLS && seen.approved == Some(repeats.answer_status) {
        repeats.turn = repeats.turn.wrapping_add(1);
        if repeats.turn & (seen.one_of - 1) != 0 {
            repeats.skipping = ASKED;
            return SKIP;
        }
    }
    let tells = if repeats.skipping != 0 || repeats.passed != repeats.told { TELL } else { 0 };
    repeats.skipping = 0;
    if seen.one_of > 1 {
        return COPY | tells;
    }
    // Sampling is over, and nothing is left to be told.
    repeats.run = 0;
    repeats.known = [0, 0];
    COPY | tells | LEAVE
}

/// Takes a segment of a response.
#[inline(always)]
fn answer(repeats: &mut Repeats, seen: &Seen, in_order: bool) -> u32 {
    let begins = seen.class == CLASS_RESPONSE && in_order && repeats.answers == 0;
    let asked = repeats.skipping;
    if begins && asked == 0 && repeats.answer_length == 0 {
        repeats.answer_length = seen.length;
        repeats.answer_status = seen.behind;
    }
    let alike = begins && repeats.answer_length == seen.length && repeats.answer_status == seen.behind;
    repeats.answers = if alike { ALIKE } else { ODD };
    if asked == 0 {
        return COPY;
    }
    if asked == ANSWERED || !begins {
        return doubt(repeats);
    }
    if !alike {
        // What is not as before is seen.
        repeats.skipping = 0;
        repeats.run = 0;
        return COPY | TELL | REQUEST;
    }
    repeats.skipping = ANSWERED;
    repeats.passed = repeats.passed.wrapping_add(1);
    // Of what is passed over, the end of the stream is told.
    if seen.ends { COUNT | COPY | BARE | TELL } else { COUNT }
}

#[inline(always)]
fn key() -> repeat::Key {
    [
        load(&globals::REPEAT_KEY_0),
        load(&globals::REPEAT_KEY_1),
        load(&globals::REPEAT_KEY_2),
        load(&globals::REPEAT_KEY_3),
    ]
}

/// [`repeat::of_request`] of a packet's payload; `None` where it cannot be read.
#[inline(always)]
fn hash(skb: *mut __sk_buff, cookie: u64, offset: u32, length: u32) -> Option<u64> {
    let mut hash = Hash::new(key());
    let last = length - CHUNK as u32;
    for chunk in 0..CHUNKS {
        let at = chunk * CHUNK as u32;
        let ends = at >= last;
        let at = if ends { last } else { at };
        hash.chunk(&packet::load::<[[u8; 8]; CHUNK / 8]>(skb, offset + at)?);
        if ends {
            break;
        }
    }
    hash.absorb(u64::from(length));
    hash.absorb(cookie);
    Some(hash.finish())
}
