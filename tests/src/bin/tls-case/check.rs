//! What must have been captured.

use std::fmt;

use anyhow::{Context as _, Result, bail, ensure};
use auditor_abi::record::{TLS_COPIED, TLS_HEADERS_WANTED};
use auditor_wire::segment::{Class, Direction, Segment};

use crate::talk::{HEADER, Stream, Talk};

/// Headers in one direction after which no more of it is captured; the kernel programs have the same number.
const HEADERS: usize = TLS_HEADERS_WANTED as usize;

/// A captured segment.
#[derive(Clone)]
pub(crate) struct Captured {
    /// The server's socket saw it.
    at_server: bool,
    /// The server sent it.
    by_server: bool,
    class: Class,
    sequence: u32,
    length: u32,
    bytes: Vec<u8>,
    fin: bool,
    gap: bool,
    muted: bool,
    fresh: bool,
}

impl fmt::Debug for Captured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at_server, by_server, class, sequence, length, fin, gap, muted, fresh, .. } = self;
        let (count, begin) = (self.bytes.len(), &self.bytes[..self.bytes.len().min(HEADER)]);
        let marks: String = [(*fin, " fin"), (*gap, " gap"), (*muted, " muted"), (*fresh, " fresh")]
            .into_iter()
            .filter_map(|(marked, mark)| marked.then_some(mark))
            .collect();
        let (at, by) = (u8::from(*at_server), u8::from(*by_server));
        write!(f, "at {at} by {by} {class:?} {sequence}+{length} {count} {begin:02x?}{marks}")
    }
}

impl Captured {
    pub(crate) fn new(segment: &Segment<'_>, at_server: bool) -> Self {
        Self {
            at_server,
            by_server: (segment.direction == Direction::Egress) == at_server,
            class: segment.class,
            sequence: segment.sequence,
            length: segment.length,
            bytes: segment.payload.to_vec(),
            fin: segment.fin,
            gap: segment.gap,
            muted: segment.muted,
            fresh: segment.fresh,
        }
    }
}

/// Both sockets say once that they were met in the middle of TLS, and no more.
pub(crate) fn middle(captured: &[Captured]) -> Result<()> {
    ensure!(captured.len() == 2, "expected one segment of each end: {captured:?}");
    for segment in captured {
        ensure!(segment.class == Class::Tls && segment.muted && !segment.fresh, "{segment:?}");
        ensure!(segment.bytes == [23, 3, 3, 0, 100], "{segment:?}");
    }
    Ok(())
}

/// The client's direction ends with a gap, the server's goes on to its end.
pub(crate) fn astray(captured: &[Captured]) -> Result<()> {
    for at_server in [false, true] {
        let of =
            |by_server: bool| captured.iter().filter(move |s| s.at_server == at_server && s.by_server == by_server);
        let client: Vec<&Captured> = of(false).collect();
        let last = client.last().context("nothing of the client")?;
        ensure!(last.gap && last.class == Class::TlsHeader && last.bytes.is_empty(), "{client:?}");
        ensure!(client.iter().filter(|segment| segment.gap).count() == 1, "{client:?}");
        ensure!(of(true).any(|segment| segment.fin), "the server's end is missing");
    }
    Ok(())
}

/// Everything of a connection, as each end saw it. Returns the number of headers that were captured.
pub(crate) fn talk(talk: &Talk, captured: &[Captured]) -> Result<usize> {
    let mut headers = 0;
    for at_server in [false, true] {
        let seen: Vec<&Captured> = captured.iter().filter(|segment| segment.at_server == at_server).collect();
        let unlike = |segment: &&&Captured| !segment.fresh || segment.gap && (segment.by_server || !talk.joined);
        ensure!(
            !seen.iter().any(|segment| unlike(&segment)),
            "not from its start, or a gap: {:?}",
            seen.iter().find(unlike)
        );
        // The client's direction is given up some packets after the server's is done.
        let served = talk.streams[1].headers.len() >= HEADERS;
        for by_server in [false, true] {
            let segments: Vec<&Captured> =
                seen.iter().copied().filter(|segment| segment.by_server == by_server).collect();
            let stream = &talk.streams[usize::from(by_server)];
            let whole = by_server || !talk.joined;
            let cut = !by_server && served;
            let direction = direction(stream, &segments, whole, cut);
            headers += direction.with_context(|| format!("at server {at_server}, by server {by_server}"))?;
        }
        let done = talk.streams.iter().all(|stream| stream.headers.len() >= HEADERS) && !talk.joined;
        let muted = seen.iter().position(|segment| segment.muted);
        ensure!(!done || muted.is_some(), "never muted");
        ensure!(muted.is_none_or(|at| at + 1 == seen.len()), "something after the mute");
    }
    Ok(headers)
}

fn direction(stream: &Stream, segments: &[&Captured], whole: bool, cut: bool) -> Result<usize> {
    let tls = stream.headers[0];
    // A prelude is captured when it looks like the begin of a head; its first byte is the stream's.
    let first = segments.iter().find(|segment| !segment.bytes.is_empty()).context("nothing was captured")?;
    let origin = first.sequence.wrapping_sub(if first.class == Class::Tls { u32::try_from(tls)? } else { 0 });
    let mut seen = vec![false; stream.bytes.len()];
    let mut headers = 0;
    let mut end = None;
    for segment in segments {
        let at = usize::try_from(segment.sequence.wrapping_sub(origin))?;
        let expected =
            stream.bytes.get(at..at + segment.bytes.len()).with_context(|| format!("beyond: {segment:?}"))?;
        ensure!(segment.bytes == expected, "other bytes at {at}: {segment:?}");
        if segment.class == Class::TlsHeader && !segment.bytes.is_empty() {
            ensure!(stream.headers.contains(&at) && segment.bytes.len() == HEADER, "no header at {at}: {segment:?}");
        }
        if segment.class == Class::Tls {
            headers += stream.headers.iter().filter(|header| (at..at + segment.bytes.len()).contains(header)).count();
        } else {
            headers += usize::from(segment.class == Class::TlsHeader);
        }
        seen[at..at + segment.bytes.len()].fill(true);
        if segment.fin {
            end = Some(at + segment.length as usize);
        }
    }
    let last = stream.headers[stream.headers.len().min(HEADERS) - 1] + HEADER;
    if whole && !cut {
        for header in stream.headers.iter().take(HEADERS) {
            ensure!(seen[*header..header + HEADER].iter().all(|seen| *seen), "no header from {header} on");
        }
        let copied = stream.bytes.len().min(tls + TLS_COPIED as usize);
        let copied = if stream.headers.len() < HEADERS { copied } else { copied.min(last) };
        if let Some(hole) = seen[tls..copied].iter().position(|seen| !seen) {
            bail!("byte {} of TLS was not copied", hole);
        }
    }
    let beyond = stream
        .headers
        .iter()
        .skip(HEADERS)
        .find(|header| **header > last.max(tls + TLS_COPIED as usize) && seen[**header]);
    ensure!(!whole || beyond.is_none(), "header {beyond:?} after the last that is wanted");
    let bounded = whole && stream.headers.len() < HEADERS && !cut;
    ensure!(!bounded || end == Some(stream.bytes.len()), "ended at {end:?} of {}", stream.bytes.len());
    Ok(headers)
}
