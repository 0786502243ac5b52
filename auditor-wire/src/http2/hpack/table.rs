//! The static table (RFC 7541 appendix A) and the dynamic one (section 2.3.2), as far as it is known.

use std::collections::VecDeque;

use zeroize::Zeroizing;

/// Entries of the static table.
pub(super) const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// Size of a table before anything is said of it (RFC 9113 section 6.5.2).
const DEFAULT_SIZE: usize = 4096;
/// Largest table that is kept, bytes as RFC 7541 section 4.1 counts them. Of a larger one the oldest entries are not known.
pub(super) const LARGEST_SIZE: usize = 64 << 10;
/// What an entry counts beside its name and value (RFC 7541 section 4.1).
const OVERHEAD: usize = 32;

/// What stands at an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// A name and a value.
    Entry(&'a [u8], &'a [u8]),
    /// An entry that was added before what was seen, or a place in a table of which nothing is certain.
    Unknown,
    /// Nothing: the peer ends the connection.
    Nothing,
}

/// An entry; it may be a secret.
struct Entry {
    /// Name and value behind it.
    bytes: Zeroizing<Box<[u8]>>,
    name: usize,
}

/// A dynamic table. Newer entries come first: those that were seen to be added stand where they stand, whatever is behind them.
pub(super) struct Table {
    entries: VecDeque<Entry>,
    size: usize,
    /// Largest size by the encoder's word.
    limit: usize,
    /// There may be entries behind those that are known.
    older: bool,
    /// It is not known how large the table may be, so neither whether an entry that is added stays: nothing is certain.
    lost: bool,
}

impl Default for Table {
    fn default() -> Self {
        Self { entries: VecDeque::new(), size: 0, limit: DEFAULT_SIZE, older: false, lost: false }
    }
}

impl Table {
    /// Nothing is certain any more, until the encoder states a size.
    pub(super) fn lose(&mut self) {
        *self = Self { older: true, lost: true, ..Self::default() };
    }

    /// The entry of an index, from 1.
    pub(super) fn get(&self, index: usize) -> Found<'_> {
        if let Some((name, value)) = index.checked_sub(1).and_then(|at| STATIC.get(at)) {
            return Found::Entry(name.as_bytes(), value.as_bytes());
        }
        match index.checked_sub(STATIC.len() + 1).map(|at| self.entries.get(at)) {
            Some(Some(entry)) => {
                let (name, value) = entry.bytes.split_at(entry.name);
                Found::Entry(name, value)
            }
            Some(None) if self.older => Found::Unknown,
            _ => Found::Nothing,
        }
    }

    /// Adds an entry (RFC 7541 section 4.4). Without its name it is not known how large it is, nor what it puts out.
    pub(super) fn add(&mut self, name: Option<&[u8]>, value: &[u8]) {
        if self.lost {
            return;
        }
        let Some(name) = name else { return self.lose() };
        let size = name.len() + value.len() + OVERHEAD;
        self.evict_to(self.limit.saturating_sub(size));
        if size <= self.limit {
            let bytes = Zeroizing::new([name, value].concat().into_boxed_slice());
            self.size += size;
            self.entries.push_front(Entry { bytes, name: name.len() });
        } else if self.limit == LARGEST_SIZE {
            // It may fit into the table of the peer.
            self.lose();
        }
    }

    /// Takes a size update (RFC 7541 section 6.3).
    pub(super) fn resize(&mut self, limit: usize) {
        if self.lost {
            // From here on it is known what stays; what was there before is not.
            *self = Self { older: true, ..Self::default() };
        }
        self.limit = limit.min(LARGEST_SIZE);
        self.evict_to(self.limit);
        self.older &= limit > 0;
    }

    /// Drops the oldest entries until the rest has at most `size`.
    fn evict_to(&mut self, size: usize) {
        while self.size > size {
            let Some(entry) = self.entries.pop_back() else { break };
            self.size -= entry.bytes.len() + OVERHEAD;
            // What was older went before it. A larger table may hold it yet.
            self.older = self.limit == LARGEST_SIZE;
        }
    }

    /// Bytes that are kept.
    pub(super) fn buffered(&self) -> usize {
        self.size + self.entries.capacity() * size_of::<Entry>()
    }
}
