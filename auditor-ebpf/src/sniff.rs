//! What the first bytes of a segment look like. A guess that decides what is copied; user space decides what it is.
//!
//! The bytes are looked at eight at a time and without loops: a loop with branches over bytes makes the verifiers of 5.10 and
//! 6.1 walk most of the million instructions they allow.

use auditor_abi::record::{CLASS_HTTP2, CLASS_REQUEST, CLASS_RESPONSE, CLASS_SHORT, CLASS_TLS};
use aya_ebpf::bindings::__sk_buff;

use crate::packet;

/// Nothing that is known.
pub const NOTHING: u8 = 0xff;

/// A TLS record that no handshake begins with: on a connection that was not seen from its start, its middle.
pub const TLS_MIDDLE: u8 = 0xfe;
/// Less than four bytes, which begin like a TLS handshake.
pub const TLS_SHORT: u8 = 0xfd;

/// An HTTP/2 SETTINGS frame, with which a server may begin (RFC 9113 section 3.4).
pub const SETTINGS: u8 = 0xfc;
/// What begins like another HTTP/2 frame: on a connection that was not seen from its start, its middle.
pub const FRAMES: u8 = 0xfb;
/// What follows `HTTP/1.1` in the response after which the client may go on with HTTP/2.
pub const SWITCHES: u32 = u32::from_le_bytes(*b" 101");

/// Words that are looked at: the longest registered method and its space fit.
const WORDS: usize = 3;
const LOW_BITS: u64 = 0x0101_0101_0101_0101;
const HIGH_BITS: u64 = 0x8080_8080_8080_8080;

/// The class of a segment by its first bytes, and the four bytes behind the eighth.
#[inline(always)]
pub fn sniff(skb: *mut __sk_buff, offset: u32, length: u32) -> (u8, u32) {
    let (words, known) = load(skb, offset, length);
    if known == 0 { (NOTHING, 0) } else { (classify(words, known), words[1] as u32) }
}

/// The first bytes as little-endian words, zero beyond those that are known. A read's size must be a constant, so a short
/// segment is known as far as the next smaller constant.
#[inline(always)]
fn load(skb: *mut __sk_buff, offset: u32, length: u32) -> ([u64; WORDS], u32) {
    let word = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
    if length >= 24 {
        if let Some([a, b, c]) = packet::load::<[[u8; 8]; 3]>(skb, offset) {
            return ([word(&a), word(&b), word(&c)], 24);
        }
    } else if length >= 8 {
        if let Some(a) = packet::load::<[u8; 8]>(skb, offset) {
            return ([word(&a), 0, 0], 8);
        }
    } else if length >= 4 {
        if let Some(a) = packet::load::<[u8; 4]>(skb, offset) {
            return ([u64::from(u32::from_le_bytes(a)), 0, 0], 4);
        }
    } else if let Some(a) = packet::load::<u8>(skb, offset) {
        return ([u64::from(a), 0, 0], 1);
    }
    ([0; WORDS], 0)
}

/// A request line is a method of letters and hyphens, a space, and something that begins a target; it may follow empty lines
/// (RFC 9112 section 2.2), which are let through to be decided in user space.
#[inline(always)]
pub fn classify(words: [u64; WORDS], known: u32) -> u8 {
    let [first, second, third] = words;
    let first_four = first as u32;
    if known >= 4 && first_four == u32::from_le_bytes(*b"HTTP") {
        return CLASS_RESPONSE;
    }
    if known >= 4 && is_tls(first_four) {
        return if first as u8 == HANDSHAKE { CLASS_TLS } else { TLS_MIDDLE };
    }
    if known < 4 && first as u8 == HANDSHAKE {
        return TLS_SHORT;
    }
    if known >= 8 && is_proxy_header(first) {
        return CLASS_SHORT;
    }
    if known >= 8 && first == u64::from_le_bytes(*b"PRI * HT") {
        return CLASS_HTTP2;
    }
    if first as u8 == 0 {
        return if known >= 8 { frame(first) } else { NOTHING };
    }
    if first as u8 == b'\r' || first as u8 == b'\n' {
        return CLASS_SHORT;
    }
    let mut class = method(first, second, known.min(8), false);
    if class == GOES_ON && known > 8 {
        class = method(second, third, 8, true);
        if class == GOES_ON {
            class = method(third, 0, 8, true);
        }
    }
    if class == GOES_ON && known == 24 { NOTHING } else { class }
}

/// Content type of a TLS handshake (RFC 8446 section 5.1).
pub const HANDSHAKE: u8 = 22;

/// Whether a segment may begin with an HTTP/2 frame.
#[inline(always)]
pub fn begins_frame(first: u64) -> bool {
    first as u8 == 0 && frame(first) != NOTHING
}

/// The class of what begins with zero: most HTTP/2 frames do, being shorter than 64 KiB (RFC 9113 section 4.1). Of the nine bytes
/// of a frame's header the last is not looked at.
#[inline(always)]
fn frame(first: u64) -> u8 {
    let [_, high, low, kind, flags, stream @ ..] = first.to_le_bytes();
    let length = u32::from(high) << 8 | u32::from(low);
    let connection = stream[0] | stream[1] | stream[2] == 0;
    let fits = match kind {
        0 => length != 0 && length <= 16_384 && flags & !0x09 == 0,
        1 => length != 0 && length <= 16_384 && flags & !0x2d == 0,
        3 | 8 => length == 4 && flags == 0,
        4 if connection && length % 6 == 0 && length <= 600 && flags == 0 => return SETTINGS,
        4 => connection && length == 0 && flags == 1,
        6 => length == 8 && connection,
        7 => length >= 8 && connection,
        _ => false,
    };
    if fits && stream[0] == 0 { FRAMES } else { NOTHING }
}

/// The text form of a PROXY header (HAProxy's PROXY protocol, section 2.1): what follows it is another protocol, told later. The
/// binary form begins with an empty line and so is let through as one.
#[inline(always)]
fn is_proxy_header(first: u64) -> bool {
    const TCP: u64 = u64::from_le_bytes(*b"PROXY TC");
    const UNKNOWN: u64 = u64::from_le_bytes(*b"PROXY UN");
    first == TCP || first == UNKNOWN
}

/// TLS record header (RFC 8446 section 5.1): content type 20 to 23, version 3.x, length up to 2^14 + 2048.
#[inline(always)]
pub fn is_tls(first_four: u32) -> bool {
    let [content, major, minor, length] = first_four.to_le_bytes();
    content.wrapping_sub(20) < 4 && major == 3 && minor <= 4 && length <= 0x48
}

/// The method goes on beyond this word; what is known ends here when the word is the last.
const GOES_ON: u8 = CLASS_SHORT;

/// Looks for the end of a method in a word, of which `known` bytes count: `CLASS_REQUEST` when it ends here and a target
/// begins, `NOTHING` when this is no method, `GOES_ON` when all of it may be method. When it has begun in the word before, a
/// space may come first: `PROPFIND` fills a word.
#[inline(always)]
fn method(word: u64, next_word: u64, known: u32, begun: bool) -> u8 {
    let counts = if known >= 8 { u64::MAX } else { (1 << (known * 8)) - 1 };
    let spaces = zero_bytes(word ^ (LOW_BITS * b' ' as u64));
    // The lowest marked byte is exact; marks above it may be false, by the borrow.
    let space = spaces & spaces.wrapping_neg() & counts;
    let before = if space == 0 { counts } else { space - 1 };
    let lower = word | (LOW_BITS * 0x20);
    let at_least_a = (lower & !HIGH_BITS).wrapping_add(LOW_BITS * (0x80 - b'a' as u64));
    let above_z = (lower & !HIGH_BITS).wrapping_add(LOW_BITS * (0x80 - b'z' as u64 - 1));
    let hyphens = zero_bytes(word ^ (LOW_BITS * b'-' as u64));
    let letters = at_least_a & !above_z & !word & HIGH_BITS;
    if (letters | hyphens) & before & HIGH_BITS != before & HIGH_BITS {
        return NOTHING;
    }
    if space == 0 {
        return GOES_ON;
    }
    if space == 0x80 && !begun {
        return NOTHING;
    }
    // `space` is the high bit of the space's byte; twice that is 0 when the byte is the last one.
    let target = word.checked_div(space << 1).unwrap_or(next_word);
    if begins_target(target as u8) { CLASS_REQUEST } else { NOTHING }
}

/// The high bit of each byte that is zero (and maybe of some above one that is).
#[inline(always)]
fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(LOW_BITS) & !word & HIGH_BITS
}

/// Origin-form, asterisk-form, absolute-form or authority-form (RFC 9112 section 3.2); 0 is a byte that is not known.
#[inline(always)]
fn begins_target(byte: u8) -> bool {
    // '*' to '[' and the letters: a few more than there are, in fewer branches.
    byte == 0 || (byte.wrapping_sub(b'*') <= b'[' - b'*') || (byte | 0x20).wrapping_sub(b'a') < 26
}
