//! The classic pcap format (draft-ietf-opsawg-pcap): one link type, records of 16 header bytes and a packet.

use super::input::{Damage, Endian, Frame, Input, LARGEST_RECORD};

/// Magic numbers as a little-endian reader sees them.
const MICROSECONDS: u32 = 0xa1b2_c3d4;
const NANOSECONDS: u32 = 0xa1b2_3c4d;
/// Alexey Kuznetsov's variant: 8 more bytes in each record header.
const MODIFIED: u32 = 0xa1b2_cd34;

const FILE_HEADER: usize = 24;
const NANOS: u64 = 1_000_000_000;

/// Whether a file that begins so is a classic capture.
pub(super) fn begins(magic: [u8; 4]) -> bool {
    variant(magic).is_some()
}

fn variant(magic: [u8; 4]) -> Option<(Endian, u32)> {
    let known = |number| matches!(number, MICROSECONDS | NANOSECONDS | MODIFIED);
    let little = u32::from_le_bytes(magic);
    let big = u32::from_be_bytes(magic);
    if known(little) { Some((Endian::Little, little)) } else { known(big).then_some((Endian::Big, big)) }
}

/// A file of which the header was read.
#[derive(Debug)]
pub(super) struct Classic {
    endian: Endian,
    /// Nanoseconds in a unit of the fractional part.
    unit: u64,
    record_header: usize,
    snapshot: u32,
    pub(super) link: u32,
}

impl Classic {
    pub(super) fn open(input: &mut Input) -> Result<Self, Damage> {
        let header = input.begin(FILE_HEADER)?.unwrap_or_default();
        let magic = header.first_chunk().copied().unwrap_or_default();
        let Some((endian, magic)) = variant(magic) else {
            return Err(input.damage("this is no pcap file; name a pcap or pcapng file"));
        };
        let (major, minor) = (endian.u16(header, 4), endian.u16(header, 6));
        let (snapshot, link) = (endian.u32(header, 16), endian.u32(header, 20) & 0xffff);
        if major != 2 {
            return Err(input.damage(format!(
                "pcap version {major}.{minor} is not known, only 2.x; convert it with `editcap -F pcap`"
            )));
        }
        let record_header = if magic == MODIFIED { 24 } else { 16 };
        let unit = if magic == NANOSECONDS { 1 } else { 1000 };
        Ok(Self { endian, unit, record_header, snapshot, link })
    }

    /// The next packet; `None` at the end.
    pub(super) fn next(&self, input: &mut Input) -> Result<Option<Frame>, Damage> {
        let Some(header) = input.begin(self.record_header)? else { return Ok(None) };
        let field = |at| self.endian.u32(header, at);
        let (seconds, fraction, captured, wire) = (field(0), field(4), field(8), field(12));
        if header.iter().all(|&byte| byte == 0) {
            return Err(input.damage(
                "there are zeros where a packet's header should be; the file was not written to its end \
                 (sparse or preallocated), what precedes this was read",
            ));
        }
        // libpcap takes the same view: a snapshot length of 0 or above its maximum means the maximum.
        let most = if self.snapshot == 0 { LARGEST_RECORD } else { self.snapshot.clamp(262_144, LARGEST_RECORD) };
        if captured > most {
            return Err(input.damage(format!(
                "a packet of {captured} bytes is claimed, and {most} is the most there can be; \
                 the file is damaged from here on, what precedes this was read"
            )));
        }
        let captured = captured as usize;
        let start = self.record_header;
        input.extend(start + captured)?;
        let time = u64::from(seconds).saturating_mul(NANOS).saturating_add(u64::from(fraction) * self.unit);
        Ok(Some(Frame { link: self.link, time, start, captured, wire: wire as usize }))
    }
}
