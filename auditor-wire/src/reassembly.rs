//! One direction of a TCP connection put in order. It knows sequence numbers; it does not know what the bytes mean, other than
//! through [`Need`].

use crate::buffer::SecretBuffer;

use crate::segment::{Class, Segment, Timestamp};

/// Furthest a retransmission can lie back: more than any receive window in use. What seems older came after a body of
/// gigabytes that was not copied.
const OLDEST_RETRANSMISSION: u32 = 1 << 27;

/// How far around the first byte seen a part may lie that shows it was not the first.
const NEAR_FIRST: u32 = 1 << 20;

/// Longest segment that is believed: far above what any kernel sends at once (BIG TCP: 512 KiB).
const LONGEST_SEGMENT: u32 = 1 << 24;

/// What the reader of a stream needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The very next byte.
    Bytes,
    /// Nothing of the next so many bytes.
    Body(u64),
    /// Whatever comes: where the next message begins is not known.
    Unframed,
}

/// Why bytes are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// They did not come, though they should have been copied.
    Lost,
    /// The source does not copy them: a body, or the end of a long head.
    NotCopied,
}

/// Bytes that are missing before a [`Part`], or at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hole {
    /// How many.
    pub length: u32,
    /// Why.
    pub missing: Missing,
}

/// A run of the stream, in order.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// When it was captured.
    pub time: Timestamp,
    /// Sequence number of its first byte.
    pub sequence: u32,
    /// Bytes it stands for; what `payload` lacks of them was not copied.
    pub length: u32,
    /// Its bytes.
    pub payload: &'a [u8],
    /// A segment begins here that may begin with a head.
    pub begins: bool,
    /// Nothing follows.
    pub fin: bool,
    /// Records were lost before it.
    pub gap: bool,
    /// The source found it by following what stands before it, and copied nothing of that.
    pub followed: bool,
    /// The source knows that other bytes of the stream stand before it, which have not come.
    pub ahead: bool,
    /// What is missing before it.
    pub hole: Option<Hole>,
}

impl<'a> Part<'a> {
    /// The part a segment is.
    #[must_use]
    pub fn of(segment: &Segment<'a>) -> Self {
        let length = segment.length.min(LONGEST_SEGMENT);
        let payload = segment.payload;
        Self {
            time: segment.time,
            sequence: segment.sequence,
            length,
            payload: &payload[..payload.len().min(length as usize)],
            begins: !matches!(
                segment.class,
                Class::Continuation | Class::Short | Class::Other | Class::TlsHeader | Class::Ahead
            ),
            fin: segment.fin,
            gap: segment.gap,
            followed: segment.class == Class::TlsHeader,
            ahead: segment.class == Class::Ahead,
            hole: None,
        }
    }

    fn end(&self) -> u32 {
        self.sequence.wrapping_add(self.length)
    }

    /// Without its first `count` bytes.
    fn without_first(self, count: u32) -> Self {
        Self {
            sequence: self.sequence.wrapping_add(count),
            length: self.length - count,
            payload: self.payload.get(count as usize..).unwrap_or_default(),
            begins: self.begins && count == 0,
            ..self
        }
    }

    /// Its first `count` bytes only.
    fn first(self, count: u32) -> Self {
        let payload = &self.payload[..self.payload.len().min(count as usize)];
        Self { length: count, payload, fin: false, ..self }
    }
}

/// How the source copies, which says what a hole means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copies {
    /// All bytes: a hole is a loss, once it has not been filled.
    Everything,
    /// Heads; segments come in the order the socket sent them.
    HeadsInOrder,
    /// Heads; segments come in the order the network delivered them.
    HeadsAnyOrder,
}

impl Copies {
    /// How the source of a segment copies.
    #[must_use]
    pub fn of(segment: &Segment<'_>) -> Self {
        match segment.direction {
            _ if segment.complete_source => Self::Everything,
            crate::segment::Direction::Egress => Self::HeadsInOrder,
            crate::segment::Direction::Ingress => Self::HeadsAnyOrder,
        }
    }
}

/// One direction of a connection.
#[derive(Default)]
pub struct Reassembly {
    next: Option<u32>,
    /// The first byte seen, where no SYN told which the first is.
    first_seen: Option<u32>,
    waiting: Option<Box<Waiting>>,
}

/// Segments that wait for an earlier one, in order, without overlap.
struct Waiting {
    stored: Vec<Stored>,
    bytes: usize,
}

/// A [`Part`] that waits.
pub struct Stored {
    time: Timestamp,
    sequence: u32,
    length: u32,
    payload: SecretBuffer,
    begins: bool,
    fin: bool,
    gap: bool,
    followed: bool,
    hole: Option<Hole>,
}

/// Most that may wait in one direction.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Payload bytes.
    pub bytes: usize,
    /// Segments.
    pub segments: usize,
}

/// What became of an arrived part.
#[derive(Debug)]
pub enum Arrival<'a> {
    /// Read it now.
    Now(Part<'a>),
    /// It belongs before the first byte that was seen.
    BeforeFirst,
    /// All of it was seen before.
    Old,
    /// It waits for an earlier one; [`Reassembly::ready`] gives it back.
    Waits {
        /// It is the first one that waits.
        first: bool,
        /// No more fits: [`Reassembly::give_up`] must be called.
        full: bool,
    },
}

impl Reassembly {
    /// States the sequence number of the first byte, from a SYN.
    pub fn begin(&mut self, sequence: u32) {
        self.next = Some(sequence);
        self.first_seen = None;
        self.waiting = None;
    }

    /// Takes a part that has just been captured.
    pub fn arrive<'a>(&mut self, part: Part<'a>, copies: Copies, need: Need, room: Room) -> Arrival<'a> {
        let Some(next) = self.next else {
            if part.ahead && copies == Copies::HeadsAnyOrder {
                // Where the stream begins is not known, but that it is near.
                return self.store(part, part.sequence.wrapping_sub(NEAR_FIRST), room);
            }
            self.next = Some(part.sequence);
            self.first_seen = Some(part.sequence);
            let hole = part.gap.then_some(Hole { length: 0, missing: Missing::Lost });
            return Arrival::Now(Part { hole, ..part });
        };
        let ahead = part.sequence.wrapping_sub(next);
        let behind = next.wrapping_sub(part.sequence);
        if ahead == 0 {
            return Arrival::Now(part);
        }
        let old = match (copies, need) {
            (Copies::Everything, _) | (_, Need::Bytes) => behind < 1 << 31,
            _ => behind < OLDEST_RETRANSMISSION,
        };
        if old {
            if self.is_before_first(part, next) {
                return Arrival::BeforeFirst;
            }
            return if behind < part.length {
                Arrival::Now(part.without_first(behind))
            } else if part.fin && behind == part.length {
                Arrival::Now(part.without_first(part.length))
            } else {
                Arrival::Old
            };
        }
        if let Some(missing) = Self::passes(part, ahead, copies, need) {
            return Arrival::Now(Part { hole: Some(Hole { length: ahead, missing }), ..part });
        }
        self.store(part, next, room)
    }

    /// Whether a part belongs before the first that was seen: that one was no begin, though it was taken for it.
    fn is_before_first(&self, part: Part<'_>, next: u32) -> bool {
        self.first_seen.is_some_and(|first| {
            let before = first.wrapping_sub(part.sequence);
            (1..NEAR_FIRST).contains(&before) && next.wrapping_sub(first) < NEAR_FIRST && part.length > 0
        })
    }

    /// The next waiting part that need wait no more.
    pub fn ready(&mut self, copies: Copies, need: Need) -> Option<Stored> {
        let next = self.next?;
        let waiting = self.waiting.as_mut()?;
        let first = waiting.stored.first()?;
        let ahead = first.sequence.wrapping_sub(next);
        let hole = match ahead {
            0 => None,
            _ => Some(Hole { length: ahead, missing: Self::passes(first.part(), ahead, copies, need)? }),
        };
        Some(Stored { hole, ..self.take_first()? })
    }

    /// Gives up the bytes that the first waiting part waits for.
    pub fn give_up(&mut self) -> Option<Stored> {
        let stored = self.take_first()?;
        let length = self.next.map(|next| stored.sequence.wrapping_sub(next));
        // How many are missing before the first that was seen is not known.
        let hole = (length != Some(0)).then_some(Hole { length: length.unwrap_or(0), missing: Missing::Lost });
        Some(Stored { hole, ..stored })
    }

    /// States that a part has been read: the stream goes on behind it.
    pub fn read(&mut self, part: &Part<'_>) {
        self.jump(part.end());
    }

    /// Goes to another place in the stream: what lies between is not looked at.
    pub fn jump(&mut self, sequence: u32) {
        self.next = Some(sequence);
        let Some(waiting) = &mut self.waiting else { return };
        waiting.forget_before(sequence);
        if waiting.stored.is_empty() {
            self.waiting = None;
        }
    }

    /// The sequence number that comes next.
    #[must_use]
    pub fn next(&self) -> Option<u32> {
        self.next
    }

    /// Whether parts wait.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// When the part that waits first was captured.
    #[must_use]
    pub fn waiting_since(&self) -> Option<Timestamp> {
        self.waiting.as_ref().and_then(|waiting| waiting.stored.iter().map(|stored| stored.time).min())
    }

    /// Bytes that wait, with what it takes to keep them.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.waiting.as_ref().map_or(0, |waiting| waiting.bytes + waiting.stored.len() * size_of::<Stored>())
    }

    /// Forgets what waits.
    pub fn clear(&mut self) {
        self.waiting = None;
    }

    /// Why the hole before a part may be passed over at once, where it may.
    fn passes(part: Part<'_>, ahead: u32, copies: Copies, need: Need) -> Option<Missing> {
        let missing = if part.gap { Missing::Lost } else { Missing::NotCopied };
        match (copies, need) {
            (Copies::Everything, _) => None,
            (Copies::HeadsInOrder, _) | (_, Need::Unframed) => Some(missing),
            _ if part.followed => Some(missing),
            (Copies::HeadsAnyOrder, Need::Body(left)) if u64::from(ahead) <= left => Some(missing),
            (Copies::HeadsAnyOrder, _) => part.gap.then_some(Missing::Lost),
        }
    }

    /// Stores a part among those that wait; where two overlap, the one that came first stands.
    fn store<'a>(&mut self, part: Part<'a>, next: u32, room: Room) -> Arrival<'a> {
        let first = self.waiting.is_none();
        let waiting = self.waiting.get_or_insert_with(|| Box::new(Waiting { stored: Vec::new(), bytes: 0 }));
        waiting.insert(part, next);
        let full = waiting.bytes > room.bytes || waiting.stored.len() > room.segments;
        Arrival::Waits { first, full }
    }

    fn take_first(&mut self) -> Option<Stored> {
        let waiting = self.waiting.as_mut()?;
        let stored = waiting.stored.remove(0);
        waiting.bytes -= stored.payload.len();
        if waiting.stored.is_empty() {
            self.waiting = None;
        }
        Some(stored)
    }
}

impl Waiting {
    fn insert(&mut self, part: Part<'_>, next: u32) {
        let mut rest = part;
        let mut index = 0;
        while let Some(stored) = self.stored.get_mut(index) {
            // Distances from the stream's position do not wrap.
            let start = stored.sequence.wrapping_sub(next);
            let end = start.saturating_add(stored.length);
            let rest_start = rest.sequence.wrapping_sub(next);
            let rest_end = rest_start.saturating_add(rest.length);
            if rest_end <= start && !(rest.fin && rest.length == 0 && rest_end == start) {
                break;
            }
            if rest_start < end || (rest.length == 0 && rest_start == end) {
                if rest_start < start {
                    self.put(index, rest.first(start - rest_start));
                    index += 1;
                }
                if rest_end <= end {
                    self.stored[index].fin |= rest.fin && rest_end == end;
                    return;
                }
                rest = rest.without_first(end - rest_start);
            }
            index += 1;
        }
        self.put(index, rest);
    }

    /// Forgets what the stream has gone past.
    fn forget_before(&mut self, next: u32) {
        let bytes = &mut self.bytes;
        self.stored.retain_mut(|stored| {
            let behind = next.wrapping_sub(stored.sequence);
            if behind == 0 || behind >= 1 << 31 {
                return true;
            }
            *bytes -= stored.payload.len();
            if behind > stored.length || (behind == stored.length && !stored.fin) {
                return false;
            }
            *stored = Stored::new(stored.part().without_first(behind));
            *bytes += stored.payload.len();
            true
        });
    }

    fn put(&mut self, index: usize, part: Part<'_>) {
        self.bytes += part.payload.len();
        self.stored.insert(index, Stored::new(part));
    }
}

impl Stored {
    fn new(part: Part<'_>) -> Self {
        Self {
            time: part.time,
            sequence: part.sequence,
            length: part.length,
            payload: SecretBuffer::from(part.payload.to_vec()),
            begins: part.begins,
            fin: part.fin,
            gap: part.gap,
            followed: part.followed,
            hole: part.hole,
        }
    }

    /// The part that waited.
    #[must_use]
    pub fn part(&self) -> Part<'_> {
        Part {
            time: self.time,
            sequence: self.sequence,
            length: self.length,
            payload: &self.payload,
            begins: self.begins,
            fin: self.fin,
            gap: self.gap,
            followed: self.followed,
            ahead: false,
            hole: self.hole,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(sequence: u32, payload: &[u8], gap: bool) -> Part<'_> {
        let length = u32::try_from(payload.len()).expect("short");
        let time = Timestamp(u64::from(sequence));
        Part {
            time,
            sequence,
            length,
            payload,
            begins: true,
            fin: false,
            gap,
            followed: false,
            ahead: false,
            hole: None,
        }
    }

    #[test]
    fn what_waits_is_forgotten_once_the_stream_has_gone_past_it() {
        let room = Room { bytes: 1000, segments: 10 };
        let mut reassembly = Reassembly::default();
        reassembly.begin(10);
        for late in [part(20, b"gone", false), part(28, b"half", false), part(40, b"ahead", false)] {
            assert!(matches!(
                reassembly.arrive(late, Copies::HeadsAnyOrder, Need::Bytes, room),
                Arrival::Waits { full: false, .. }
            ));
        }
        let Arrival::Now(now) = reassembly.arrive(part(25, b"lossy", true), Copies::HeadsAnyOrder, Need::Bytes, room)
        else {
            panic!("records were lost before it: it waits for nothing");
        };
        assert_eq!(now.hole, Some(Hole { length: 15, missing: Missing::Lost }));
        reassembly.read(&now);
        let rest = reassembly.ready(Copies::HeadsAnyOrder, Need::Bytes).expect("the rest of what half overlaps");
        assert_eq!((rest.part().sequence, rest.part().payload, rest.part().hole), (30, &b"lf"[..], None));
        reassembly.read(&rest.part());
        assert!(reassembly.ready(Copies::HeadsAnyOrder, Need::Bytes).is_none());
        assert_eq!(reassembly.buffered(), 5 + size_of::<Stored>());
    }
}
