//! Follows an HTTP/2 connection packet by packet: copies what [`crate::frames`] wants of it.
//!
//! A program of its own, reached by a tail call. One run emits at most one record; when a packet has more, the program calls itself
//! for the rest.

use auditor_abi::{
    counters,
    record::{CLASS_CONTINUATION, CLASS_END, CLASS_HTTP2, EGRESS, PAYLOAD_MAX},
};
use aya_ebpf::{bindings::__sk_buff, helpers::generated::bpf_skb_load_bytes, programs::SkBuffContext};

use crate::{
    emit::{Observed, emit},
    frames::{Bytes, Found, Place},
    maps::{self, HTTP2_EGRESS, HTTP2_INGRESS, count_loss},
    observe, owner,
    packet::{self, FIN, RST},
};

/// Bytes of one record.
const MOST: u32 = PAYLOAD_MAX as u32 - 1;

/// The payload of a packet.
struct Payload {
    skb: *mut __sk_buff,
    offset: u32,
}

impl Bytes for Payload {
    #[inline(always)]
    fn first(&self) -> Option<[u8; 8]> {
        packet::load::<[u8; 8]>(self.skb, self.offset)
    }

    #[inline(always)]
    unsafe fn copy(&self, at: u32, to: *mut u8, length: u32) -> bool {
        // SAFETY: the caller's promise; the helper checks the packet's bounds.
        unsafe { bpf_skb_load_bytes(self.skb.cast(), self.offset + at, to.cast(), length) == 0 }
    }
}

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
    let Some((sk, socket)) = maps::known(skb) else { return };
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
    let run = noted::<RUN>(skb);
    let spared = run == 0 && direction == EGRESS && observe::is_spared(socket);
    let walk = &mut socket.halves[half];
    if run == 0 && !spared && !walk.enter() {
        note::<WHOLE>(skb, 1);
    }
    let whole = noted::<WHOLE>(skb) != 0;
    let Found { from, length: here, more } = if spared {
        Found { from: 0, length: 0, more: false }
    } else if whole {
        // Another packet is being followed: of this one all is wanted, and the frames are found again behind it.
        let from = run.wrapping_mul(MOST).min(length);
        Found { from, length: (length - from).min(MOST), more: length - from > MOST }
    } else {
        let place =
            Place { sequence: headers.sequence, length, fresh: socket.fresh != 0 && socket.http == 0, step: run };
        walk.frames.step(&Payload { skb, offset: headers.payload_offset }, &place, MOST)
    };
    // Whoever reads takes a record with the end for the last of its segment.
    let last = !more && (here == 0 || from.wrapping_add(here) == length);
    let nothing = here == 0 && (more || !ends) && !spared;
    let more = more || (!nothing && ends && !last);
    if !more && !whole && !spared {
        walk.leave();
    }
    if nothing {
        return again_if(more, skb, direction, run);
    }
    if !last {
        headers.flags &= !(FIN | RST);
    }
    if direction == EGRESS {
        owner::note(socket);
    }
    headers.sequence = headers.sequence.wrapping_add(from);
    headers.payload_offset += from;
    headers.payload_length = if here > 0 { here } else { length.saturating_sub(from) };
    let class = match here {
        0 if spared => CLASS_CONTINUATION,
        0 => CLASS_END,
        _ => CLASS_HTTP2,
    };
    emit(&Observed { skb, sk, headers: &headers, direction, class, thinned: None }, socket, here, 0);
    if spared {
        return observe::spared(socket);
    }
    again_if(more, skb, direction, run);
}

#[inline(always)]
fn again_if(more: bool, skb: *mut __sk_buff, direction: u8, run: u32) {
    if more {
        note::<RUN>(skb, run + 1);
        call(skb, direction);
    }
}

/// Runs with the packet before this one.
const RUN: usize = 0;
/// 1 when all of the packet is wanted.
const WHOLE: usize = 1;

/// What the run before noted with the packet.
#[inline(always)]
fn noted<const WHAT: usize>(skb: *mut __sk_buff) -> u32 {
    // SAFETY: a context field, which the kernel clears before the first program of a packet runs.
    unsafe { core::ptr::read_volatile(&raw const (*skb).cb[WHAT]) }
}

/// Notes something with the packet for the next run.
#[inline(always)]
fn note<const WHAT: usize>(skb: *mut __sk_buff, value: u32) {
    // SAFETY: a context field that programs may write.
    unsafe { core::ptr::write_volatile(&raw mut (*skb).cb[WHAT], value) };
}
