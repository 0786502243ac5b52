//! Reading the file: bounded, and with a message for everything that is not a configuration.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use rustix::fs::{Mode, OFlags};
use serde::de::DeserializeOwned;
use serde_saphyr::{Budget, Error as YamlError, Location, budget::BudgetBreach};

use super::{
    error::{ConfigError, Place, nearest},
    raw::Raw,
    value::shown,
};

/// More than any configuration needs; what is larger is some other file.
const LARGEST_FILE: u64 = 1024 * 1024;

/// What a kind of file is called in messages about it, and how large it may grow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    /// The flag that names it.
    pub(crate) flag: &'static str,
    /// What goes on without it.
    pub(crate) without: &'static str,
    /// Where its keys are explained.
    pub(crate) reference: &'static str,
    /// Most YAML nodes.
    pub(crate) nodes: usize,
}

const CONFIGURATION: Kind = Kind {
    flag: "--config",
    without: "to run with the defaults",
    reference: "docs/configuration.md lists every key",
    nodes: 10_000,
};

/// Reads and parses one file.
pub(super) fn read(file: &Path) -> Result<Raw, ConfigError> {
    parse(file, &text(file, CONFIGURATION)?)
}

/// The text of a file.
pub(crate) fn text(file: &Path, kind: Kind) -> Result<String, ConfigError> {
    let fail =
        |reason: String, remedy: &str| ConfigError::File { file: file.to_owned(), reason, remedy: remedy.to_owned() };
    let unreadable = |error: io::Error| {
        let remedy = match error.kind() {
            io::ErrorKind::NotFound => &format!("check the path, or leave out {} {}", kind.flag, kind.without),
            io::ErrorKind::PermissionDenied => "let the auditor's user read it",
            _ => "name a YAML file",
        };
        fail(format!("cannot be read ({})", reason_of(&error)), remedy)
    };
    let opened = open(file).map_err(unreadable)?;
    if opened.metadata().map_err(unreadable)?.is_dir() {
        return Err(fail("is a directory".to_owned(), "name a YAML file"));
    }
    let mut bytes = Vec::new();
    let read = opened.take(LARGEST_FILE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if read as u64 > LARGEST_FILE {
        return Err(fail("is larger than 1MiB".to_owned(), "a configuration takes a few KiB: check the path"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        fail(format!("is not UTF-8 text (at byte {offset})"), "save it as UTF-8; YAML takes nothing else here")
    })
}

/// Opens a file for reading, without waiting for anybody: a named pipe that nobody writes to is empty.
fn open(file: &Path) -> io::Result<File> {
    let opened =
        rustix::fs::open(file, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY, Mode::empty())?;
    // Read as usual: what somebody does write to a pipe may come in parts.
    let flags = rustix::fs::fcntl_getfl(&opened)?;
    rustix::fs::fcntl_setfl(&opened, flags - OFlags::NONBLOCK)?;
    Ok(opened.into())
}

/// The reason without Rust's "(os error 2)".
pub(crate) fn reason_of(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

/// Parses the text of a configuration file; `file` is only named in messages.
pub(super) fn parse(file: &Path, text: &str) -> Result<Raw, ConfigError> {
    document(file, text, CONFIGURATION)
}

/// Parses the text of a file; `file` is only named in messages.
pub(crate) fn document<T: DeserializeOwned + Default>(file: &Path, text: &str, kind: Kind) -> Result<T, ConfigError> {
    if text.lines().all(|line| matches!(line.trim_start().as_bytes().first(), None | Some(b'#'))) {
        return Ok(T::default());
    }
    let options = serde_saphyr::options! {
        budget: budget(kind.nodes),
        merge_keys: serde_saphyr::MergeKeyPolicy::Error,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| explain(file, error.without_snippet(), kind))
}

/// A configuration is small and flat: what is neither is refused before it costs anything.
fn budget(nodes: usize) -> Option<Budget> {
    serde_saphyr::budget! {
        max_events: 2 * nodes,
        max_nodes: nodes,
        max_depth: 8,
        flow_nesting_limit: 8,
        max_aliases: 16,
        max_anchors: 16,
        max_recorded_anchor_events: 1_000,
        max_recorded_anchor_bytes: 64 * 1024,
        max_documents: 1,
        max_total_scalar_bytes: 1024 * 1024,
    }
}

fn explain(file: &Path, error: &YamlError, kind: Kind) -> ConfigError {
    let (line, column) = error.location().map_or((0, 0), |at: Location| (at.line(), at.column()));
    let place = Place { file: file.to_owned(), line, column };
    // What is wrong with an alias is what is wrong with the value that it stands for.
    let error = match error {
        YamlError::AliasError { error, .. } => error,
        error => error,
    };
    let (reason, remedy) = match error {
        YamlError::SerdeUnknownField { field, expected, .. } => {
            let remedy = match nearest(field, expected.iter().copied()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("keys here are {}", expected.join(", ")),
            };
            (format!("unknown key `{}`", shown(field)), remedy)
        }
        YamlError::DuplicateMappingKey { key, .. } => {
            let key = key.as_deref().map_or_else(String::new, |key| format!(" `{}`", shown(key)));
            (format!("the key{key} is there twice"), "keep one of them".to_owned())
        }
        YamlError::MultipleDocuments { .. } | YamlError::Budget { breach: BudgetBreach::Documents { .. }, .. } => {
            ("there is more than one YAML document".to_owned(), "remove the lines that hold only `---`".to_owned())
        }
        YamlError::Budget { .. } => too_much(),
        other => {
            let said = sentence(other);
            match plainly(other, &said) {
                Some((reason, remedy)) => (reason.to_owned(), remedy.to_owned()),
                None if said.contains("recursion limit") => too_much(),
                None => (said, kind.reference.to_owned()),
            }
        }
    };
    ConfigError::Content { place, reason, remedy }
}

fn too_much() -> (String, String) {
    (
        "there is more nesting, repetition or text than any configuration needs".to_owned(),
        "check that this is the right file".to_owned(),
    )
}

/// What the parser means, and what to do, where its own words, `said`, are those of a parser.
fn plainly(error: &YamlError, said: &str) -> Option<(&'static str, &'static str)> {
    const OUT: &str = "write out what the anchor stands for; text that begins with `*` or `&` stands in quotes";
    Some(match error {
        YamlError::Unexpected { expected: "sequence start", .. } => {
            ("a list is expected here", "write it as `[one, two]`, or each entry on a line of its own behind `- `")
        }
        YamlError::Unexpected { expected: "mapping start", .. } => {
            ("keys with their values are expected here", "write `key: value`, each on a line of its own")
        }
        YamlError::Unexpected { expected: "string scalar", .. } => {
            ("one text is expected here, and this is a list or has keys", "write the text alone, in quotes if need be")
        }
        YamlError::InvalidScalar { ty: "boolean", .. } | YamlError::InvalidBooleanStrict { .. } => {
            ("this is neither true nor false", "write `true` or `false`")
        }
        YamlError::MergeKeyNotAllowed { .. } => ("merge keys (`<<`) are not taken", "write the keys out"),
        YamlError::UnknownAnchor { .. } => ("there is no anchor of this name", OUT),
        YamlError::RecursiveReferencesRequireWeakTypes { .. } => ("an anchor stands inside of itself", OUT),
        _ if said.contains("tab") => ("a tab stands where YAML takes blanks alone", "indent with blanks"),
        _ if said.contains("block collection") || said.contains("block mapping") => {
            ("this line stands further left or right than those it belongs to", "indent what belongs together alike")
        }
        _ if said.contains("quoted scalar") => {
            ("a quote is opened and not closed, or its text is not indented", "close it on the same line")
        }
        _ if said.contains("simple key") => ("a key has no `:` behind it", "write `key: value`"),
        _ => return None,
    })
}

/// The parser's own words, on one line and without the place, which is already said.
fn sentence(error: &YamlError) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    let line = line.split_once(": ").filter(|(head, _)| head.contains("line ")).map_or(line, |(_, tail)| tail);
    let line = line.rsplit_once(" at line ").map_or(line, |(head, _)| head);
    shown(line.trim().trim_end_matches('.'))
}
