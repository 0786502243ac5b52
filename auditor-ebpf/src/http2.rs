//! Follows an HTTP/2 connection: copies all but the payloads of larger DATA frames. It reads lengths and types of frames to find
//! the next one, and nothing else.
//!
//! A program of its own, reached by a tail call. One run looks at some frames and emits at most one record; when a packet has more,
//! the program calls itself for the rest, so that there is one place that emits and the loops stay short. Where the position in the
//! stream is not known packets are copied whole: user space knows it, or finds it as this program does.

use auditor_abi::{
    counters,
    record::{CLASS_END, CLASS_HTTP2, EGRESS, PAYLOAD_MAX},
};
use aya_ebpf::{bindings::__sk_buff, helpers::generated::bpf_skb_load_bytes, programs::SkBuffContext};

use crate::{
    clamp::clamp,
    emit::{Observed, emit},
    maps::{self, Frames, HTTP2_EGRESS, HTTP2_INGRESS, count_loss},
    owner,
    packet::{self, FIN, Headers, RST},
    sniff,
    tls::{get, set},
};

/// Bytes of a frame's header (RFC 9113 section 4.1).
const HEADER: u32 = 9;
/// Type of the frames that carry bodies (RFC 9113 section 6.1).
const DATA: u32 = 0;
/// Bytes of the client's preface (RFC 9113 section 3.4).
const PREFACE: u32 = 24;
/// Frames that one run looks at.
const FRAMES: u32 = 16;
/// Runs for one packet in which frames are looked at: the kernel allows 32 calls, and some are needed to copy what is left.
const RUNS: u32 = 20;
/// Payloads of DATA from this length on are left out. Shorter ones are cheaper to copy than to make a record more for.
const SKIPPED: u32 = 256;
/// Packets that are copied whole while the position is not known.
const ASTRAY: u32 = 64;
/// Bytes of one record.
const MOST: u32 = PAYLOAD_MAX as u32 - 1;

/// Goes on with a packet in the program for HTTP/2 connections; comes back only when that cannot be called.
#[inline(always)]
pub fn call(skb: *mut __sk_buff, direction: u8) {
    let programs = if direction == EGRESS { &HTTP2_EGRESS } else { &HTTP2_INGRESS };
    // SAFETY: no value of the caller needs to be dropped.
    unsafe { programs.tail_call(&SkBuffContext::new(skb), 0) };
    count_loss(counters::LOST_TAIL_CALL);
}

/// Looks at one packet of an HTTP/2 connection.
#[inline(always)]
pub fn follow(skb: *mut __sk_buff, direction: u8) {
    let Some(sk) = packet::tcp_socket(skb) else { return };
    let Some(socket) = maps::socket(sk) else { return };
    let half = usize::from(direction != EGRESS);
    let mut headers = match packet::headers(skb) {
        Ok(Some(headers)) => headers,
        Ok(None) => return,
        Err(()) => return count_loss(counters::LOST_HEADERS),
    };
    let ends = headers.flags & (FIN | RST) != 0;
    let length = headers.payload_length;
    if length == 0 && !ends {
        return;
    }
    // SAFETY: a context field, which the kernel clears before the first program of a packet runs.
    let run = unsafe { core::ptr::read_volatile(&raw const (*skb).cb[0]) };
    let first = socket.fresh != 0 && socket.http == 0;
    let frames = &mut socket.frames[half];
    if run == 0 {
        arrive(skb, &headers, first, frames);
    }
    if get(&frames.open) != 0 {
        if run < RUNS {
            look(skb, &headers, frames);
        } else {
            lose(frames, &headers);
        }
    }
    // Offsets into the payload.
    let open = get(&frames.open) != 0;
    let from = get(&frames.from).wrapping_sub(headers.sequence);
    let to = get(&frames.to).wrapping_sub(headers.sequence).min(length);
    let here = if !open && to > from { (to - from).min(MOST) } else { 0 };
    let reached = from.wrapping_add(here);
    let mut more = open || reached < to;
    set(&mut frames.from, headers.sequence.wrapping_add(reached));
    if !more && get(&frames.begun) != 0 && get(&frames.next).wrapping_sub(headers.sequence) < length {
        // Behind a payload that is left out.
        let next = get(&frames.next);
        set(&mut frames.from, next);
        set(&mut frames.to, next);
        set(&mut frames.open, 1);
        more = true;
    }
    if here == 0 && (more || !ends) {
        return again_if(more, skb, direction, run);
    }
    // Whoever reads takes a record with the end for the last of its segment.
    let last = !more && (here == 0 || reached == length);
    if !last {
        headers.flags &= !(FIN | RST);
    }
    if direction == EGRESS {
        owner::note(sk, socket);
    }
    headers.sequence = headers.sequence.wrapping_add(from);
    headers.payload_offset += from;
    headers.payload_length = if here > 0 { here } else { length.saturating_sub(from) };
    let class = if here > 0 { CLASS_HTTP2 } else { CLASS_END };
    emit(&Observed { skb, sk, headers: &headers, direction, class }, socket, here, 0);
    again_if(more || (ends && !last), skb, direction, run);
}

/// Begins with a packet: what of it is wanted as far as that is known without looking at it. `first`: the connection was seen from
/// its first byte, and nothing else was spoken on it.
#[inline(always)]
fn arrive(skb: *mut __sk_buff, headers: &Headers, first: bool, frames: &mut Frames) {
    let (sequence, length) = (headers.sequence, headers.payload_length);
    let end = sequence.wrapping_add(length);
    set(&mut frames.from, sequence);
    set(&mut frames.to, sequence);
    set(&mut frames.open, 0);
    if length == 0 {
        return;
    }
    let into_hole = sequence.wrapping_sub(get(&frames.hole));
    if into_hole < get(&frames.behind_hole).wrapping_sub(get(&frames.hole)) {
        // It comes late: what follows it has been looked at.
        return set(&mut frames.to, end);
    }
    let ahead = get(&frames.next).wrapping_sub(sequence);
    let known = get(&frames.begun) != 0;
    if !known || (ahead as i32) < 0 {
        let word = if length >= HEADER { packet::load::<[u8; 8]>(skb, headers.payload_offset) } else { None };
        let word = u64::from_le_bytes(word.unwrap_or([0xff; 8]));
        let preface = word == u64::from_le_bytes(*b"PRI * HT");
        let fits = preface || (first && !known && get(&frames.astray) == 0) || sniff::begins_frame(word);
        if !fits {
            let astray = get(&frames.astray).saturating_add(1);
            set(&mut frames.astray, astray);
            if astray <= ASTRAY {
                set(&mut frames.to, end);
            }
            return;
        }
        if known {
            set(&mut frames.hole, get(&frames.next));
            set(&mut frames.behind_hole, sequence);
        }
        set(&mut frames.begun, 1);
        set(&mut frames.held, 0);
        set(&mut frames.wanted, 1);
        set(&mut frames.next, if preface { sequence.wrapping_add(PREFACE) } else { sequence });
    }
    let ahead = get(&frames.next).wrapping_sub(sequence).min(length);
    set(&mut frames.to, sequence.wrapping_add(ahead));
    if get(&frames.wanted) == 0 {
        set(&mut frames.from, sequence.wrapping_add(ahead));
    }
    set(&mut frames.open, u32::from(ahead < length));
}

/// Goes from frame to frame through a packet, up to a payload that is left out.
#[inline(always)]
fn look(skb: *mut __sk_buff, headers: &Headers, frames: &mut Frames) {
    let length = headers.payload_length;
    for _ in 0..FRAMES {
        let (next, held) = (get(&frames.next), get(&frames.held) & 15);
        let at = next.wrapping_sub(headers.sequence);
        if at >= length {
            return set(&mut frames.open, 0);
        }
        let read = clamp::<16>(HEADER.wrapping_sub(held).min(length - at)) as u32;
        // SAFETY: at most 15 bytes at 15 of 32; the helper checks the packet's bounds.
        let status = unsafe {
            let to = (&raw mut frames.header).cast::<u8>().add(held as usize);
            bpf_skb_load_bytes(skb.cast(), headers.payload_offset + at, to.cast(), read)
        };
        if status != 0 {
            return lose(frames, headers);
        }
        set(&mut frames.held, held + read);
        set(&mut frames.next, next.wrapping_add(read));
        set(&mut frames.to, next.wrapping_add(read));
        if get(&frames.held) < HEADER {
            return set(&mut frames.open, 0);
        }
        let word = get(&frames.header[0]);
        let (payload, kind) = (u32::from_be(word) >> 8, word >> 24);
        // Types above those of RFC 9113 have been registered up to 16; DATA alone may be longer than 64 KiB here.
        if kind > 32 || (kind != DATA && payload > 0xffff) {
            return lose(frames, headers);
        }
        let after = get(&frames.next).wrapping_add(payload);
        set(&mut frames.held, 0);
        set(&mut frames.next, after);
        set(&mut frames.astray, 1);
        let left_out = kind == DATA && payload >= SKIPPED;
        set(&mut frames.wanted, u32::from(!left_out));
        if left_out {
            return set(&mut frames.open, 0);
        }
        set(&mut frames.to, after);
    }
}

/// The position is not known any more: the rest of the packet is copied, and the next ones until one begins with a frame.
#[inline(always)]
fn lose(frames: &mut Frames, headers: &Headers) {
    set(&mut frames.begun, 0);
    set(&mut frames.astray, 1);
    set(&mut frames.open, 0);
    set(&mut frames.to, headers.sequence.wrapping_add(headers.payload_length));
}

#[inline(always)]
fn again_if(more: bool, skb: *mut __sk_buff, direction: u8, run: u32) {
    if more {
        // SAFETY: a context field that programs may write.
        unsafe { core::ptr::write_volatile(&raw mut (*skb).cb[0], run + 1) };
        call(skb, direction);
    }
}
