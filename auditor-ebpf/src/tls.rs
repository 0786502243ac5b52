//! Follows a TLS connection: copies the first bytes of each direction, then only the headers of its records, until enough of
//! them have passed to tell what became of the handshake. It reads record lengths to find the next header, and nothing else.
//!
//! A program of its own, reached by a tail call. One run emits one record; when a packet has more, the program calls itself for
//! the rest, so that there is one place that emits and the loops stay short.

use auditor_abi::{
    counters,
    record::{CLASS_END, CLASS_TLS, CLASS_TLS_HEADERS, EGRESS, TLS_COPIED, TLS_HEADERS_OF_PACKET, TLS_HEADERS_WANTED},
};
use aya_ebpf::{bindings::__sk_buff, helpers::generated::bpf_skb_load_bytes, programs::SkBuffContext};

use crate::{
    clamp::clamp,
    emit::{Observed, emit},
    maps::{self, Found, Socket, TLS_EGRESS, TLS_INGRESS, Walk, count_loss},
    owner,
    packet::{self, FIN, Headers, RST},
    sniff,
    volatile::{get, set},
};

/// Bytes of a record header (RFC 8446 section 5.1).
const HEADER: u32 = 5;
/// Segments that are not where the next header is looked for, after which the place counts as lost: the network may deliver a few
/// of them late.
const ASTRAY: u32 = 8;
/// Packets that the server sends once all that is wanted of it was seen, while the client is still looked at. A client that only
/// receives would else never be muted.
const LINGER: u32 = 64;

/// Goes on with a packet in the program for TLS connections; comes back only when that cannot be called.
#[inline(always)]
pub fn call(skb: *mut __sk_buff, direction: u8) {
    let programs = if direction == EGRESS { &TLS_EGRESS } else { &TLS_INGRESS };
    // SAFETY: no value of the caller needs to be dropped.
    unsafe { programs.tail_call(&SkBuffContext::new(skb), 0) };
    count_loss(counters::LOST_TAIL_CALL);
}

/// Looks at one packet of a TLS connection.
#[inline(always)]
pub fn follow(skb: *mut __sk_buff, direction: u8) {
    let Some((sk, socket)) = maps::known(skb) else { return };
    let half = usize::from(direction != EGRESS);
    let left_alone = socket.quiet[half] != 0;
    if left_alone && !is_over(socket, half) {
        return;
    }
    let mut headers = match packet::headers(skb) {
        Ok(Some(headers)) => headers,
        Ok(None) => return,
        Err(()) => return count_loss(counters::LOST_HEADERS),
    };
    let ends = headers.flags & (FIN | RST) != 0;
    if headers.payload_length == 0 && !ends && !left_alone {
        return;
    }
    // SAFETY: a context field, which the kernel clears before the first program of a packet runs.
    let again = unsafe { core::ptr::read_volatile(&raw const (*skb).cb[0]) } != 0;
    let walk = &mut socket.halves[half].walk;
    if walk.begun == 0 && headers.payload_length > 0 {
        begin(skb, &headers, walk);
    }
    let wanted = if again || left_alone { 0 } else { wanted(walk, &headers) };
    let lost = walk.astray >= ASTRAY && wanted == 0 && !left_alone;
    set(&mut walk.found.more, 0);
    set(&mut walk.found.count, 0);
    if !lost && !left_alone && headers.payload_length > 0 {
        look(skb, &headers, walk, wanted != 0);
    }
    let (found, mut more) = (get(&walk.found.count), get(&walk.found.more) != 0);
    if lost || get(&walk.headers) >= TLS_HEADERS_WANTED {
        socket.quiet[half] = 1;
        more = false;
    }
    if left_alone {
        socket.mute();
        // All that it tells is that nothing more will be told.
        headers.payload_length = 0;
        more = false;
    }
    socket.halves[half].gap |= u32::from(lost);
    let class = if wanted != 0 {
        CLASS_TLS
    } else if found > 0 || lost || left_alone {
        CLASS_TLS_HEADERS
    } else if ends {
        CLASS_END
    } else {
        return again_if(more, skb, direction);
    };
    // Whoever reads takes a record with the end for the last of its segment.
    if ends && class == CLASS_TLS && wanted < headers.payload_length && socket.quiet[half] == 0 {
        more = true;
    }
    if more {
        headers.flags &= !(FIN | RST);
    }
    if direction == EGRESS {
        owner::note(socket);
    }
    emit(&Observed { skb, sk, headers: &headers, direction, class, thinned: None }, socket, wanted, found);
    again_if(more, skb, direction);
}

#[inline(always)]
fn again_if(more: bool, skb: *mut __sk_buff, direction: u8) {
    if more {
        // SAFETY: a context field that programs may write.
        unsafe { core::ptr::write_volatile(&raw mut (*skb).cb[0], 1) };
        call(skb, direction);
    }
}

/// Whether a direction that is quiet is the server's of a connection whose client is still looked at.
#[inline(always)]
pub fn lingers(socket: &Socket, half: usize) -> bool {
    socket.quiet[1 - half] == 0 && socket.followed == maps::TLS && socket.halves[half].walk.server != 0
}

/// Whether the client has been looked at for long enough.
#[inline(always)]
fn is_over(socket: &mut Socket, half: usize) -> bool {
    let walk = &mut socket.halves[half].walk;
    walk.lingered += 1;
    walk.lingered > LINGER
}

/// Notes where the first TLS record of a direction begins, if it does in this segment.
#[inline(always)]
fn begin(skb: *mut __sk_buff, headers: &Headers, walk: &mut Walk) {
    const SERVER_HELLO: u8 = 2;
    let offset = headers.payload_offset;
    let (begins, server) = if headers.payload_length >= 8 {
        let bytes = packet::load::<[u8; 8]>(skb, offset).unwrap_or([0; 8]);
        let [a, b, c, d, _, message, ..] = bytes;
        (sniff::is_tls(u32::from_le_bytes([a, b, c, d])), a == sniff::HANDSHAKE && message == SERVER_HELLO)
    } else {
        // The rest of the header is looked at once it is there.
        let content = packet::load::<u8>(skb, offset).unwrap_or(0);
        (content.wrapping_sub(20) < 4, false)
    };
    if begins {
        walk.begun = 1;
        walk.server = u32::from(server);
        walk.first = headers.sequence;
        walk.next = headers.sequence;
        walk.astray = 0;
    }
}

/// Bytes to be copied of this segment. What is sent again is copied again, but not for ever.
#[inline(always)]
fn wanted(walk: &mut Walk, headers: &Headers) -> u32 {
    let offset = headers.sequence.wrapping_sub(walk.first);
    if walk.begun == 0 || offset >= TLS_COPIED || walk.copied >= 2 * TLS_COPIED {
        return 0;
    }
    let wanted = headers.payload_length.min(TLS_COPIED - offset);
    walk.copied += wanted;
    wanted
}

/// Goes from header to header through a segment, and gathers them, unless bytes are copied in this run: then it passes those that
/// lie within the copied bytes.
#[inline(always)]
fn look(skb: *mut __sk_buff, headers: &Headers, walk: &mut Walk, copying: bool) {
    let length = headers.payload_length;
    if walk.begun == 0 || (walk.next.wrapping_sub(headers.sequence) as i32) < 0 {
        walk.astray += 1;
        return set(&mut walk.found.more, u32::from(walk.astray >= ASTRAY));
    }
    for _ in 0..TLS_HEADERS_OF_PACKET {
        let (next, held) = (get(&walk.next), get(&walk.held) & 7);
        let at = next.wrapping_sub(headers.sequence);
        if at >= length || get(&walk.headers) >= TLS_HEADERS_WANTED {
            return;
        }
        let begins = next.wrapping_sub(held);
        if copying && begins.wrapping_sub(walk.first) > TLS_COPIED - HEADER {
            return set(&mut walk.found.more, 1);
        }
        let read = clamp::<8>(HEADER.wrapping_sub(held).min(length - at)) as u32;
        // SAFETY: at most 7 bytes at 7 of 16; the helper checks the packet's bounds.
        let status = unsafe {
            let to = (&raw mut walk.header).cast::<u8>().add(held as usize);
            bpf_skb_load_bytes(skb.cast(), headers.payload_offset + at, to.cast(), read)
        };
        set(&mut walk.held, held + read);
        set(&mut walk.next, next.wrapping_add(read));
        if status == 0 && get(&walk.held) < HEADER {
            return;
        }
        let (first_four, fifth) = (get(&walk.header[0]), get(&walk.header[1]) & 0xff);
        if status != 0 || !sniff::is_tls(first_four) {
            walk.astray = ASTRAY;
            return set(&mut walk.found.more, 1);
        }
        if !copying {
            gather(&mut walk.found, begins, first_four, fifth);
        }
        let body = (u32::from_be(first_four) & 0xff) << 8 | fifth;
        let after = get(&walk.next).wrapping_add(body);
        set(&mut walk.next, after);
        set(&mut walk.held, 0);
        walk.headers += 1;
        walk.astray = 0;
    }
    set(&mut walk.found.more, u32::from(get(&walk.next).wrapping_sub(headers.sequence) < length));
}

/// Adds a header to those that were found.
#[inline(always)]
fn gather(found: &mut Found, sequence: u32, first_four: u32, fifth: u32) {
    let count = get(&found.count) & (TLS_HEADERS_OF_PACKET as u32 - 1);
    // SAFETY: there is room for as many as the mask lets through.
    unsafe {
        let to = (&raw mut found.headers).cast::<[u32; 3]>().add(count as usize);
        to.write_volatile([sequence, first_four, fifth]);
    }
    set(&mut found.count, count + 1);
}
