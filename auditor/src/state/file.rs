//! The state file: a line that says what follows and its checksum, then one line of JSON for each section.
//!
//! ```text
//! {"format":"zero-trust-auditor-state","version":1,"saved":"2026-11-22T01:23:45Z","blake3":"9f2c...","sections":[...]}
//! [...]
//! ```
//!
//! Sections have names and versions of their own, so that one part of the auditor can change what it saves without the others
//! losing theirs. A section nobody asks for is dropped at the next save.

use std::{collections::BTreeMap, io};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

const FORMAT: &str = "zero-trust-auditor-state";
/// Raised when an older auditor cannot read the file any more.
const VERSION: u32 = 1;
/// Longest first line, bytes.
const HEADER: usize = 64 * 1024;

#[derive(Serialize, Deserialize)]
struct Header {
    format: String,
    version: u32,
    saved: jiff::Timestamp,
    /// Of everything behind the first line.
    blake3: String,
    sections: Vec<Section>,
}

#[derive(Serialize, Deserialize)]
struct Section {
    name: String,
    version: u32,
    /// Length of its line, the line break included.
    bytes: usize,
}

/// Writes one section as JSON, on the saving thread.
type Write = Box<dyn FnOnce(&mut Vec<u8>) -> serde_json::Result<()> + Send>;

/// What is to be saved. Taking one costs what copying the values costs; they become text where it is written.
#[derive(Default)]
pub struct Snapshot(Vec<(&'static str, u32, Write)>);

impl Snapshot {
    /// Nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Also `value`, as the section `name` in `version`.
    #[must_use]
    pub fn with(mut self, name: &'static str, version: u32, value: impl Serialize + Send + 'static) -> Self {
        self.0.push((name, version, Box::new(move |out| serde_json::to_writer(out, &value))));
        self
    }

    /// The file.
    pub(super) fn into_bytes(self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        let mut sections = Vec::new();
        for (name, version, write) in self.0 {
            let before = body.len();
            write(&mut body)?;
            body.push(b'\n');
            sections.push(Section { name: name.to_owned(), version, bytes: body.len() - before });
        }
        let header = Header {
            format: FORMAT.to_owned(),
            version: VERSION,
            saved: jiff::Timestamp::now(),
            blake3: blake3::hash(&body).to_hex().to_string(),
            sections,
        };
        let mut bytes = serde_json::to_vec(&header)?;
        bytes.push(b'\n');
        bytes.append(&mut body);
        Ok(bytes)
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, version, _)| (name, version))).finish()
    }
}

/// What was saved, by section.
#[derive(Debug, Default)]
pub struct Sections(BTreeMap<String, (u32, Vec<u8>)>);

impl Sections {
    /// Reads a file; all of it or nothing.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let end = bytes.iter().take(HEADER).position(|byte| *byte == b'\n');
        let Some(end) = end else { return Err("it is empty, cut, or not a state file".to_owned()) };
        let (header, mut body) = (&bytes[..end], &bytes[end + 1..]);
        /// The part that every version has.
        #[derive(Deserialize)]
        struct Kind {
            format: String,
            version: u32,
        }
        let kind: Kind = serde_json::from_slice(header).map_err(|_| "it is not a state file".to_owned())?;
        if kind.format != FORMAT {
            return Err("it is not a state file of the auditor".to_owned());
        }
        if kind.version != VERSION {
            return Err(format!("it has version {}, and this auditor reads version {VERSION}", kind.version));
        }
        let header: Header = serde_json::from_slice(header).map_err(|_| "its first line is damaged".to_owned())?;
        if header.blake3 != blake3::hash(body).to_hex().as_str() {
            return Err("it is damaged or cut: the checksum does not match".to_owned());
        }
        let mut sections = BTreeMap::new();
        for Section { name, version, bytes } in header.sections {
            let Some((section, rest)) = body.split_at_checked(bytes) else {
                return Err(format!("its section `{}` is cut", name.escape_debug()));
            };
            sections.insert(name, (version, section.to_owned()));
            body = rest;
        }
        Ok(Self(sections))
    }

    /// Takes the section `name`, if it is there in `version`. One of another version, or that does not fit `T`, is said and left
    /// out.
    pub fn take<T: DeserializeOwned>(&mut self, name: &str, version: u32) -> Option<T> {
        let (found, bytes) = self.0.remove(name)?;
        if found != version {
            tracing::warn!(
                section = name,
                found,
                expected = version,
                "a section of the saved state has another version; it is dropped"
            );
            return None;
        }
        serde_json::from_slice(&bytes)
            .inspect_err(|error| {
                // Where, not what: the text may be anything.
                let (line, column) = (error.line(), error.column());
                tracing::warn!(
                    section = name,
                    line,
                    column,
                    "a section of the saved state cannot be read; it is dropped"
                );
            })
            .ok()
    }

    /// Names of the sections that are left.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}
