//! Goes from frame to frame of one direction of an HTTP/2 connection and says what of it is wanted: all but the payloads of larger
//! DATA frames. It reads lengths and types of frames to find the next one, and nothing else.
//!
//! One step looks at some frames and finds at most one run of bytes, so that there is one place that emits and the loops stay
//! short; when there is more the caller takes further steps. Where the position in the stream is not known all bytes are wanted:
//! user space knows it, or finds it as is done here.

use crate::{
    clamp::clamp,
    sniff,
    volatile::{get, set},
};

/// Bytes of a frame's header (RFC 9113 section 4.1).
const HEADER: u32 = 9;
/// Type of the frames that carry bodies (RFC 9113 section 6.1).
const DATA: u32 = 0;
/// Bytes of the client's preface (RFC 9113 section 3.4).
const PREFACE: u32 = 24;
/// Frames that one step looks at.
const FRAMES: u32 = 16;
/// Steps for the same bytes in which all those are left out: each takes one. Later more frames are walked in a step, and copied.
const LEAVING: u32 = 14;
/// Payloads of DATA from this length on are left out later, too: to copy them takes steps as well.
const LARGE: u32 = 8192;
/// Steps in which frames are looked at. The kernel allows 32 calls, and some are needed to copy what is left.
const STEPS: u32 = 27;
/// Payloads of DATA from this length on are left out. Shorter ones are cheaper to copy than to make a record more for.
const SKIPPED: u32 = 256;
/// Bytes that are copied whole while the position is not known: what is under way when a packet of a fast connection is lost.
const ASTRAY: u32 = 2 * 1024 * 1024;
/// What a window of TCP spans at most (RFC 7323 section 2.3): nothing that is further back comes late.
const WINDOW: u32 = 1 << 30;

/// How far the HTTP/2 frames of one direction have been followed. Sequence numbers, but for what is said otherwise.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Frames {
    /// 1 while the position is known.
    pub begun: u32,
    /// The next byte of a frame's header.
    pub next: u32,
    /// 1 when what comes before that is wanted.
    pub wanted: u32,
    /// Bytes of that header that came in earlier segments.
    pub held: u32,
    /// Those bytes, and room for what the verifier takes for possible: fifteen bytes read behind fifteen that are held.
    pub header: [u32; 8],
    /// First byte of what was found to be wanted in the packet at hand.
    pub from: u32,
    /// The byte behind it.
    pub to: u32,
    /// 1 when it goes on, as far as is known.
    pub open: u32,
    /// First byte that was passed over because what follows it came first.
    pub hole: u32,
    /// The byte behind the last of those.
    pub behind_hole: u32,
    /// Bytes of packets since the position was last known; at least 1 once it was.
    pub astray: u32,
}

/// The bytes of a packet, or of a read or write.
pub trait Bytes {
    /// The first eight of them, where there are as many.
    fn first(&self) -> Option<[u8; 8]>;

    /// Copies up to 15 bytes from an offset on; whether that could be done.
    ///
    /// # Safety
    /// There must be room for them at `to`.
    unsafe fn copy(&self, at: u32, to: *mut u8, length: u32) -> bool;
}

/// Where bytes stand in their stream.
pub struct Place {
    /// Sequence number of the first.
    pub sequence: u32,
    /// How many there are.
    pub length: u32,
    /// The stream was seen from its first byte, and nothing else was spoken on it.
    pub fresh: bool,
    /// Steps that were taken with them before.
    pub step: u32,
}

/// What a step found to be wanted.
pub struct Found {
    /// Offset of its first byte.
    pub from: u32,
    /// How many bytes; less than the step's limit.
    pub length: u32,
    /// Another step is to be taken.
    pub more: bool,
}

impl Frames {
    /// Takes a step, which finds up to `most` bytes.
    #[inline(always)]
    pub fn step(&mut self, bytes: &impl Bytes, place: &Place, most: u32) -> Found {
        if place.step == 0 {
            self.arrive(bytes, place);
        }
        if get(&self.open) != 0 {
            if place.step < STEPS {
                self.look(bytes, place);
            } else {
                self.lose(place);
            }
        }
        let Place { sequence, length, .. } = *place;
        let open = get(&self.open) != 0;
        let from = get(&self.from).wrapping_sub(sequence);
        let to = get(&self.to).wrapping_sub(sequence).min(length);
        let here = if !open && to > from { (to - from).min(most) } else { 0 };
        let reached = from.wrapping_add(here);
        let mut more = open || reached < to;
        set(&mut self.from, sequence.wrapping_add(reached));
        if !more && get(&self.begun) != 0 && get(&self.next).wrapping_sub(sequence) < length {
            // Behind a payload that is left out.
            let next = get(&self.next);
            set(&mut self.from, next);
            set(&mut self.to, next);
            set(&mut self.open, 1);
            more = true;
        }
        Found { from, length: here, more }
    }

    /// Begins with bytes: what of them is wanted as far as that is known without looking at them.
    #[inline(always)]
    fn arrive(&mut self, bytes: &impl Bytes, place: &Place) {
        let Place { sequence, length, .. } = *place;
        let end = sequence.wrapping_add(length);
        set(&mut self.from, sequence);
        set(&mut self.to, sequence);
        set(&mut self.open, 0);
        if length == 0 {
            return;
        }
        let (hole, behind) = (get(&self.hole), get(&self.behind_hole));
        let holes = get(&self.next).wrapping_sub(hole) < WINDOW && hole != behind;
        let ahead = get(&self.next).wrapping_sub(sequence);
        let known = get(&self.begun) != 0;
        if !known || (ahead as i32) < 0 {
            let word = if length >= HEADER { bytes.first() } else { None };
            let word = u64::from_le_bytes(word.unwrap_or([0xff; 8]));
            let preface = word == u64::from_le_bytes(*b"PRI * HT");
            let fits = preface || (place.fresh && !known && get(&self.astray) == 0) || sniff::begins_frame(word);
            let strides = if fits || !known { None } else { self.stride(bytes, place) };
            if !fits && strides.is_none() {
                let astray = get(&self.astray).saturating_add(length);
                set(&mut self.astray, astray);
                if astray <= ASTRAY {
                    set(&mut self.to, end);
                }
                return;
            }
            if known {
                // Of several holes none is known to be filled: all between the first and the last is one.
                if !holes {
                    set(&mut self.hole, get(&self.next));
                }
                set(&mut self.behind_hole, sequence);
            }
            let skipped = if preface { PREFACE } else { strides.unwrap_or(0) };
            set(&mut self.begun, 1);
            set(&mut self.held, 0);
            set(&mut self.wanted, 1);
            set(&mut self.next, sequence.wrapping_add(skipped));
        }
        let ahead = get(&self.next).wrapping_sub(sequence).min(length);
        set(&mut self.to, sequence.wrapping_add(ahead));
        let late = holes && (behind.wrapping_sub(sequence) as i32) > 0 && (end.wrapping_sub(hole) as i32) > 0;
        if late {
            // It fills a hole, or comes again: what follows it has been looked at.
            let before = hole.wrapping_sub(sequence);
            set(&mut self.from, if (before as i32) > 0 { hole } else { sequence });
        } else if get(&self.wanted) == 0 {
            set(&mut self.from, sequence.wrapping_add(ahead));
        }
        set(&mut self.open, u32::from(ahead < length));
    }

    /// Where in the bytes of a packet that came before others the next header stands, if the frames of a body, of which the last
    /// header was one, go on in the same length: those of long bodies do.
    #[inline(always)]
    fn stride(&mut self, bytes: &impl Bytes, place: &Place) -> Option<u32> {
        let (first, second) = (get(&self.header[0]), get(&self.header[1]));
        let length = HEADER + (u32::from_be(first) >> 8);
        // A header of which a part was seen stands where the last one did.
        if get(&self.held) != 0 || first >> 24 != DATA || length < SKIPPED {
            return None;
        }
        let ahead = place.sequence.wrapping_sub(get(&self.next));
        let at = ahead.div_ceil(length) * length - ahead;
        if at + HEADER > place.length {
            return None;
        }
        // SAFETY: 8 bytes at the 17th of 32.
        let copied = unsafe { bytes.copy(at, (&raw mut self.header).cast::<u8>().add(16), 8) };
        // Length, type and flags; streams have small numbers.
        let same = get(&self.header[4]) == first && (get(&self.header[5]) ^ second) as u8 == 0;
        (copied && same && get(&self.header[5]) >> 8 & 0xff == 0).then_some(at)
    }

    /// Goes from frame to frame, up to a payload that is left out.
    #[inline(always)]
    fn look(&mut self, bytes: &impl Bytes, place: &Place) {
        let Place { sequence, length, .. } = *place;
        for _ in 0..FRAMES {
            let (next, held) = (get(&self.next), get(&self.held) & 15);
            let at = next.wrapping_sub(sequence);
            if at >= length {
                return set(&mut self.open, 0);
            }
            let read = clamp::<16>(HEADER.wrapping_sub(held).min(length - at)) as u32;
            // SAFETY: at most 15 bytes at 15 of 32.
            let copied = unsafe {
                let to = (&raw mut self.header).cast::<u8>().add(held as usize);
                bytes.copy(at, to, read)
            };
            if !copied {
                return self.lose(place);
            }
            set(&mut self.held, held + read);
            set(&mut self.next, next.wrapping_add(read));
            set(&mut self.to, next.wrapping_add(read));
            if get(&self.held) < HEADER {
                return set(&mut self.open, 0);
            }
            let word = get(&self.header[0]);
            let (payload, kind) = (u32::from_be(word) >> 8, word >> 24);
            // Types above those of RFC 9113 have been registered up to 16; DATA alone may be longer than 64 KiB here.
            if kind > 32 || (kind != DATA && payload > 0xffff) {
                return self.lose(place);
            }
            let after = get(&self.next).wrapping_add(payload);
            set(&mut self.held, 0);
            set(&mut self.next, after);
            set(&mut self.astray, 1);
            let left_out = kind == DATA && payload >= if place.step < LEAVING { SKIPPED } else { LARGE };
            set(&mut self.wanted, u32::from(!left_out));
            if left_out {
                return set(&mut self.open, 0);
            }
            set(&mut self.to, after);
        }
    }

    /// The position is not known any more: the rest of the bytes is wanted, and the next ones until some begin with a frame.
    #[inline(always)]
    fn lose(&mut self, place: &Place) {
        set(&mut self.begun, 0);
        set(&mut self.astray, 1);
        set(&mut self.open, 0);
        set(&mut self.to, place.sequence.wrapping_add(place.length));
    }
}
