//! pcapng (draft-ietf-opsawg-pcapng): sections of blocks, several interfaces, each with its own link type and clock.

use super::input::{Damage, Endian, Frame, Input, LARGEST_RECORD};

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
const OPTION_TIME_RESOLUTION: u16 = 9;
const OPTION_TIME_OFFSET: u16 = 14;
const NANOS: u128 = 1_000_000_000;
/// No capture has this many; each costs memory.
const MOST_INTERFACES: usize = 65_536;

/// Whether a file that begins so is a pcapng file.
pub(super) fn begins(magic: [u8; 4]) -> bool {
    u32::from_le_bytes(magic) == SECTION_HEADER
}

/// The section that is being read.
#[derive(Debug)]
pub(super) struct Sections {
    endian: Endian,
    interfaces: Vec<Interface>,
    /// Time of the packet before: simple packets have none of their own.
    latest: u64,
}

/// One interface of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Interface {
    link: u32,
    snapshot: u32,
    /// Units of time in a second.
    resolution: u64,
    /// Seconds to add.
    offset: i64,
}

impl Sections {
    pub(super) fn new() -> Self {
        Self { endian: Endian::Little, interfaces: Vec::new(), latest: 0 }
    }

    /// The next packet; `None` at the end.
    pub(super) fn next(&mut self, input: &mut Input) -> Result<Option<Frame>, Damage> {
        loop {
            let Some((kind, length)) = self.begin_block(input)? else { return Ok(None) };
            let held = matches!(
                kind,
                SECTION_HEADER | INTERFACE_DESCRIPTION | OBSOLETE_PACKET | SIMPLE_PACKET | ENHANCED_PACKET
            );
            if length > LARGEST_RECORD {
                if held {
                    return Err(input.damage(format!(
                        "a block of {length} bytes is claimed, and {LARGEST_RECORD} is the most there can be; \
                         the file is damaged from here on, what precedes this was read"
                    )));
                }
                input.skip(length.into())?;
                continue;
            }
            let block = input.extend(length as usize)?;
            let trailer = self.endian.u32(block, block.len() - 4);
            if trailer != length {
                return Err(input.damage(format!(
                    "the block's length is {length} at its start and {trailer} at its end; \
                     the file is damaged from here on, what precedes this was read"
                )));
            }
            match kind {
                SECTION_HEADER => self.section(input)?,
                INTERFACE_DESCRIPTION => self.interface(input)?,
                ENHANCED_PACKET | OBSOLETE_PACKET => return self.packet(kind, input).map(Some),
                SIMPLE_PACKET => return self.simple(input).map(Some),
                _ => {}
            }
        }
    }

    /// Type and length of the next block. A section header also tells the byte order of all that follows it.
    fn begin_block(&mut self, input: &mut Input) -> Result<Option<(u32, u32)>, Damage> {
        let Some(head) = input.begin(8)? else { return Ok(None) };
        let head: [u8; 8] = head.first_chunk().copied().unwrap_or_default();
        let mut least = 12;
        if self.endian.u32(&head, 0) == SECTION_HEADER {
            least = 28;
            let magic = input.extend(12)?;
            self.endian = if Endian::Little.u32(magic, 8) == BYTE_ORDER_MAGIC {
                Endian::Little
            } else if Endian::Big.u32(magic, 8) == BYTE_ORDER_MAGIC {
                Endian::Big
            } else {
                return Err(
                    input.damage("a section header without byte-order magic; the file is damaged or no pcapng file")
                );
            };
        }
        let (kind, length) = (self.endian.u32(&head, 0), self.endian.u32(&head, 4));
        if length < least || !length.is_multiple_of(4) {
            return Err(input.damage(format!(
                "a block of type {kind:#x} claims to be {length} bytes long, which none can be; \
                 the file is damaged from here on, what precedes this was read"
            )));
        }
        Ok(Some((kind, length)))
    }

    fn section(&mut self, input: &Input) -> Result<(), Damage> {
        let major = self.endian.u16(input.record(), 12);
        if major != 1 {
            return Err(input.damage(format!("pcapng version {major} is not known, only 1; convert it with editcap")));
        }
        self.interfaces.clear();
        Ok(())
    }

    fn interface(&mut self, input: &Input) -> Result<(), Damage> {
        let block = input.record();
        if block.len() < 20 {
            return Err(input.damage("an interface description is too short; the file is damaged from here on"));
        }
        if self.interfaces.len() >= MOST_INTERFACES {
            return Err(input.damage(format!("more than {MOST_INTERFACES} interfaces; the file is damaged or hostile")));
        }
        let mut interface = Interface {
            link: self.endian.u16(block, 8).into(),
            snapshot: self.endian.u32(block, 12),
            resolution: 1_000_000,
            offset: 0,
        };
        for (code, value) in options(self.endian, &block[16..block.len() - 4]) {
            match code {
                OPTION_TIME_RESOLUTION => {
                    let exponent = value.first().copied().unwrap_or(6);
                    interface.resolution = resolution(exponent).ok_or_else(|| {
                        input.damage(format!(
                            "a time resolution of {exponent:#x} is beyond any clock; the file is damaged"
                        ))
                    })?;
                }
                OPTION_TIME_OFFSET => interface.offset = self.endian.i64(value, 0),
                _ => {}
            }
        }
        self.interfaces.push(interface);
        Ok(())
    }

    /// An enhanced packet block, or the packet block it replaced: they differ in how they name the interface.
    fn packet(&mut self, kind: u32, input: &Input) -> Result<Frame, Damage> {
        let (block, endian) = (input.record(), self.endian);
        let index = if kind == OBSOLETE_PACKET { endian.u16(block, 8).into() } else { endian.u32(block, 8) };
        let Some(interface) = self.interfaces.get(index as usize).copied() else {
            return Err(input.damage(format!(
                "a packet of interface {index}, and the section describes {} of them; the file is damaged",
                self.interfaces.len()
            )));
        };
        let ticks = u64::from(endian.u32(block, 12)) << 32 | u64::from(endian.u32(block, 16));
        let (captured, wire) = (endian.u32(block, 20) as usize, endian.u32(block, 24) as usize);
        if block.len() < 32 || captured > block.len() - 32 {
            return Err(input.damage(format!(
                "a packet of {captured} bytes in a block of {}; the file is damaged from here on",
                block.len()
            )));
        }
        self.latest = interface.nanoseconds(ticks);
        Ok(Frame { link: interface.link, time: self.latest, start: 28, captured, wire })
    }

    /// A simple packet block: of the first interface, without a time, cut at that interface's snapshot length.
    fn simple(&mut self, input: &Input) -> Result<Frame, Damage> {
        let block = input.record();
        let Some(interface) = self.interfaces.first() else {
            return Err(input.damage("a packet before any interface was described; the file is damaged"));
        };
        if block.len() < 16 {
            return Err(input.damage("a packet block is too short; the file is damaged from here on"));
        }
        let wire = self.endian.u32(block, 8) as usize;
        let snapshot = if interface.snapshot == 0 { usize::MAX } else { interface.snapshot as usize };
        let captured = wire.min(snapshot).min(block.len() - 16);
        Ok(Frame { link: interface.link, time: self.latest, start: 12, captured, wire })
    }
}

impl Interface {
    fn nanoseconds(self, ticks: u64) -> u64 {
        let nanos = i128::try_from(u128::from(ticks) * NANOS / u128::from(self.resolution)).unwrap_or(i128::MAX);
        let offset = i128::from(self.offset).saturating_mul(1_000_000_000);
        u64::try_from(nanos.saturating_add(offset).max(0)).unwrap_or(u64::MAX)
    }
}

/// Units in a second: a power of ten, or of two when the highest bit is set.
fn resolution(exponent: u8) -> Option<u64> {
    let power = u32::from(exponent & 0x7f);
    if exponent & 0x80 == 0 { 10_u64.checked_pow(power) } else { 1_u64.checked_shl(power) }
}

/// Codes and values of an option list, to its end or to the first that does not fit.
fn options(endian: Endian, mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (code, length) = (endian.u16(bytes, 0), usize::from(endian.u16(bytes, 2)));
        let value = bytes.get(4..4 + length)?;
        bytes = bytes.get(4 + length.next_multiple_of(4)..).unwrap_or_default();
        (code != 0).then_some((code, value))
    })
}
