//! Capture files, pcap and pcapng, as a source of segments. The file is read as a stream, in bounded memory; what is wrong
//! with it is said with its place, and what precedes the damage is delivered.
//!
//! The formats are read here and not by a crate: the ones there are do not say where a file is damaged, do not know obsolete
//! packet blocks, and get clocks that tick in powers of two wrong.

mod classic;
mod conversations;
mod input;
mod ng;

use std::{collections::BTreeMap, io::BufRead};

use auditor_wire::{
    packet::{self, Ignored, LinkType},
    segment::{Class, Segment, Timestamp},
};

use self::{
    classic::Classic,
    conversations::Conversations,
    input::{Damage, Frame, Input},
    ng::Sections,
};
use super::{Capture, CaptureError, Counts, Status};

/// Packets delivered in one call.
const BATCH: usize = 1024;
/// Connections told apart at once: some 30 MB at most.
const CONVERSATIONS: usize = 1 << 18;
const IGNORED_LINK: &str = "link-type";
const LOST_CONVERSATION: &str = "conversation-evicted";

/// A pcap or pcapng file.
pub struct PcapFile {
    name: String,
    input: Input,
    format: Format,
    conversations: Conversations,
    /// Packets read.
    packets: u64,
    delivered: u64,
    ignored: BTreeMap<&'static str, u64>,
    /// Packets by link types that are not read.
    unread_links: BTreeMap<u32, u64>,
    ended: bool,
}

enum Format {
    Classic(Classic),
    Sections(Sections),
}

/// Whether a file whose first bytes are `magic` is one of the formats read here.
#[must_use]
pub fn begins(magic: [u8; 4]) -> bool {
    classic::begins(magic) || ng::begins(magic)
}

impl PcapFile {
    /// Begins reading; `name` is what messages call it.
    ///
    /// # Errors
    /// When it does not begin like a pcap or pcapng file, or has a link type that is not read.
    pub fn new(name: impl Into<String>, mut reader: Box<dyn BufRead + Send>) -> Result<Self, CaptureError> {
        let name = name.into();
        let magic = reader.fill_buf().ok().and_then(|bytes| bytes.first_chunk().copied());
        let mut input = Input::new(reader);
        let format = if magic.is_some_and(ng::begins) {
            Format::Sections(Sections::new())
        } else {
            let classic = Classic::open(&mut input).map_err(|damage| error(&name, 0, &damage))?;
            if LinkType::from_number(classic.link).is_none() {
                return Err(unread_link(&name, &[classic.link]));
            }
            Format::Classic(classic)
        };
        Ok(Self {
            name,
            input,
            format,
            conversations: Conversations::new(CONVERSATIONS),
            packets: 0,
            delivered: 0,
            ignored: BTreeMap::new(),
            unread_links: BTreeMap::new(),
            ended: false,
        })
    }

    fn next(&mut self) -> Result<Option<Frame>, Damage> {
        let frame = match &mut self.format {
            Format::Classic(classic) => classic.next(&mut self.input)?,
            Format::Sections(sections) => sections.next(&mut self.input)?,
        };
        self.packets += u64::from(frame.is_some());
        Ok(frame)
    }

    fn deliver(&mut self, frame: Frame, deliver: &mut dyn FnMut(&Segment<'_>)) {
        let Some(link) = LinkType::from_number(frame.link) else {
            *self.unread_links.entry(frame.link).or_default() += 1;
            *self.ignored.entry(IGNORED_LINK).or_default() += 1;
            return;
        };
        let bytes = self.input.record().get(frame.start..frame.start + frame.captured).unwrap_or_default();
        let packet = match packet::parse(link, bytes, frame.wire) {
            Ok(packet) => packet,
            Err(reason) => {
                let reason: Ignored = reason;
                *self.ignored.entry(reason.as_str()).or_default() += 1;
                return;
            }
        };
        let Some(place) = self.conversations.place(&packet) else { return };
        self.delivered += 1;
        deliver(&Segment {
            time: Timestamp(frame.time),
            socket: place.socket,
            direction: place.direction,
            wire: place.endpoints,
            endpoints: place.endpoints,
            sequence: packet.sequence,
            syn: packet.syn,
            fin: packet.fin,
            rst: packet.rst,
            length: packet.length,
            payload: packet.payload,
            class: Class::Unclassified,
            fresh: place.fresh,
            gap: false,
            complete_source: true,
            passed_over: None,
            repeat: None,
            muted: false,
            owner: None,
            cgroup: None,
            netns: None,
        });
    }

    /// The end of the file. One of which no packet could be read is an error, not a result without calls.
    fn end(&mut self) -> Result<Status, CaptureError> {
        self.ended = true;
        let unread: u64 = self.unread_links.values().sum();
        if unread > 0 && unread == self.packets {
            let links: Vec<u32> = self.unread_links.keys().copied().collect();
            return Err(unread_link(&self.name, &links));
        }
        Ok(Status::End)
    }
}

impl Capture for PcapFile {
    fn drain(&mut self, deliver: &mut dyn FnMut(&Segment<'_>)) -> Result<Status, CaptureError> {
        if self.ended {
            return Ok(Status::End);
        }
        for _ in 0..BATCH {
            match self.next() {
                Ok(Some(frame)) => self.deliver(frame, deliver),
                Ok(None) => return self.end(),
                Err(damage) => {
                    self.ended = true;
                    return Err(error(&self.name, self.packets, &damage));
                }
            }
        }
        Ok(Status::More)
    }

    fn counts(&mut self) -> Counts {
        let evicted = self.conversations.evicted;
        Counts {
            delivered: self.delivered,
            ignored: self.ignored.iter().map(|(reason, count)| (*reason, *count)).collect(),
            lost: if evicted > 0 { vec![(LOST_CONVERSATION, evicted)] } else { Vec::new() },
            passed_over: 0,
        }
    }
}

fn error(name: &str, packets: u64, damage: &Damage) -> CaptureError {
    let message = format!("at byte {}, after {packets} packets: {}", damage.offset, damage.message);
    CaptureError { source_name: name.to_owned(), message }
}

fn unread_link(name: &str, links: &[u32]) -> CaptureError {
    let links: Vec<String> = links.iter().map(u32::to_string).collect();
    let message = format!(
        "packets of link type {} are not read; capture Ethernet, Linux cooked (`tcpdump -i any`), loopback or raw IP",
        links.join(", ")
    );
    CaptureError { source_name: name.to_owned(), message }
}

#[cfg(test)]
mod tests;
