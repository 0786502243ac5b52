//! What the first bytes of a segment look like. A guess that decides what is copied; user space decides what it is.

use auditor_abi::record::{CLASS_HTTP2, CLASS_REQUEST, CLASS_RESPONSE, CLASS_SHORT, CLASS_TLS};
use aya_ebpf::bindings::__sk_buff;

use crate::packet;

/// Bytes that are looked at.
const WINDOW: usize = 24;
/// Nothing that is known.
pub const NOTHING: u8 = 0xff;

/// The class of a segment by its first bytes.
#[inline(always)]
pub fn sniff(skb: *mut __sk_buff, offset: u32, length: u32) -> u8 {
    if length >= WINDOW as u32 {
        return match packet::load::<WINDOW>(skb, offset) {
            Some(bytes) => classify(&bytes, WINDOW),
            None => NOTHING,
        };
    }
    let mut bytes = [0_u8; WINDOW];
    let known = load_short(skb, offset, length, &mut bytes);
    if known == 0 { NOTHING } else { classify(&bytes, known) }
}

/// Segments shorter than the window: a read's size must be a constant, so as many bytes as the next smaller constant. Returns
/// how many.
#[inline(always)]
fn load_short(skb: *mut __sk_buff, offset: u32, length: u32, bytes: &mut [u8; WINDOW]) -> usize {
    if length >= 16 {
        if let Some(first) = packet::load::<16>(skb, offset) {
            bytes[..16].copy_from_slice(&first);
            return 16;
        }
    } else if length >= 8 {
        if let Some(first) = packet::load::<8>(skb, offset) {
            bytes[..8].copy_from_slice(&first);
            return 8;
        }
    } else if length >= 4 {
        if let Some(first) = packet::load::<4>(skb, offset) {
            bytes[..4].copy_from_slice(&first);
            return 4;
        }
    } else if let Some([first]) = packet::load::<1>(skb, offset) {
        bytes[0] = first;
        return 1;
    }
    0
}

/// `known` of the bytes are valid. A request line is a method of letters and hyphens, a space, and something that begins a
/// target; it may follow empty lines (RFC 9112 section 2.2), which then come alone or are passed over here.
#[inline(always)]
fn classify(bytes: &[u8; WINDOW], known: usize) -> u8 {
    if bytes[0] == b'H' && known >= 4 && bytes[1] == b'T' && bytes[2] == b'T' && bytes[3] == b'P' {
        return if known < 5 || bytes[4] == b'/' { CLASS_RESPONSE } else { CLASS_REQUEST };
    }
    // TLS record (RFC 8446 section 5.1): content type 20 to 23, version 3.x, length up to 2^14 + 2048.
    if (0x14..=0x17).contains(&bytes[0]) && known >= 4 && bytes[1] == 3 && bytes[2] <= 4 && bytes[3] <= 0x48 {
        return CLASS_TLS;
    }
    if bytes[0] == b'P' && known >= 8 && bytes[1] == b'R' && bytes[2] == b'I' && bytes[3] == b' ' && bytes[4] == b'*' {
        return CLASS_HTTP2;
    }
    // An empty line first: what follows is close enough to be copied and decided in user space.
    if bytes[0] == b'\r' || bytes[0] == b'\n' {
        return CLASS_SHORT;
    }
    for at in 0..WINDOW - 1 {
        // `get`, not an index: the compiler does not see that the bound holds, and a program has nowhere to panic to.
        let (Some(&byte), Some(&next)) = (bytes.get(at), bytes.get(at + 1)) else { return NOTHING };
        if at >= known {
            return CLASS_SHORT;
        }
        if byte == b' ' {
            return if at > 0 && begins_target(next, at + 1 < known) { CLASS_REQUEST } else { NOTHING };
        }
        if !byte.is_ascii_alphabetic() && byte != b'-' {
            return NOTHING;
        }
    }
    NOTHING
}

/// Origin-form, asterisk-form, absolute-form or authority-form (RFC 9112 section 3.2), or not known yet.
#[inline(always)]
fn begins_target(byte: u8, known: bool) -> bool {
    !known || byte == b'/' || byte == b'*' || byte == b'[' || byte.is_ascii_alphanumeric()
}
