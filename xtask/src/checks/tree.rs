//! House rules that hold for every file of the tree.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::process::{read, root};

/// Longer files are split.
const LINES: usize = 600;
/// Names that say nothing of what a module holds.
const EMPTY_NAMES: &[&str] = &["common", "utils", "util", "helpers", "helper", "misc"];

/// Registries that sources and configuration must not name: each machine has its own mirrors.
const REGISTRIES: &[&str] = &[
    "index.crates.io",
    "static.crates.io",
    "pypi.",
    "files.pythonhosted",
    "registry.npmjs",
    "deb.debian",
    "proxy.golang",
];

/// A file of the tree, by its path from the root.
pub(crate) struct File {
    path: PathBuf,
    content: Vec<u8>,
}

/// Every file that is, or would be, committed.
///
/// # Errors
/// When the tree is no git repository or a file cannot be read.
pub(crate) fn files() -> Result<Vec<File>> {
    let mut git = std::process::Command::new("git");
    git.current_dir(root()).args(["ls-files", "--cached", "--others", "--exclude-standard"]);
    let listed = read(&mut git)?;
    listed
        .lines()
        .map(PathBuf::from)
        .filter(|path| root().join(path).is_file())
        .map(|path| {
            let content = fs::read(root().join(&path)).with_context(|| format!("cannot read {}", path.display()))?;
            Ok(File { path, content })
        })
        .collect()
}

/// Every breach, with the file and line it is in.
pub(crate) fn breaches(files: &[File]) -> Vec<String> {
    files.iter().flat_map(file_breaches).collect()
}

fn file_breaches(file: &File) -> Vec<String> {
    let path = file.path.display();
    let mut breaches = Vec::new();
    if file.content.starts_with(b"\x7fELF") {
        breaches.push(format!("{path}: a program or object; everything is built from source"));
    }
    let Ok(text) = std::str::from_utf8(&file.content) else { return breaches };
    for (number, line) in text.lines().enumerate() {
        let forbidden = forbidden(&file.path, line);
        breaches.extend(forbidden.map(|reason| format!("{path}:{}: {reason}", number + 1)));
    }
    if is_rust(&file.path) {
        let lines = text.lines().count();
        if lines > LINES {
            breaches.push(format!("{path}: {lines} lines; split it, the limit is {LINES}"));
        }
        let name = file.path.file_stem().unwrap_or_default().to_string_lossy();
        if EMPTY_NAMES.contains(&name.as_ref()) {
            breaches.push(format!("{path}: name the module by what it holds"));
        }
    }
    breaches
}

/// What must not stand in a line. The patterns are put together here, or this file would break its own rules.
fn forbidden(path: &Path, line: &str) -> Option<String> {
    if path.ends_with("Cargo.lock") {
        return None;
    }
    if let Some(host) = REGISTRIES.iter().find(|host| line.contains(&format!("://{host}"))) {
        return Some(format!("names the registry {host}"));
    }
    if let Some(folder) = ["work", "root"].iter().find(|folder| names_folder(line, &format!("/{folder}/"))) {
        return Some(format!("names a path under /{folder}, which is one machine's"));
    }
    // The first line of a PEM block; code that looks for such blocks names it within a line.
    if line.trim_start().starts_with("-----BEGIN") && line.contains("PRIVATE KEY") {
        return Some("holds a private key; tests make their own".to_owned());
    }
    let unfinished = ["TO", "FIX"].iter().zip(["DO", "ME"]).any(|(head, tail)| line.contains(&format!("{head}{tail}")));
    (is_rust(path) && unfinished).then(|| "is unfinished".to_owned())
}

/// Whether an absolute path in `line` begins with `folder`; `/a/b/` does not begin with `/b/`.
fn names_folder(line: &str, folder: &str) -> bool {
    line.match_indices(folder)
        .any(|(at, _)| line[..at].chars().next_back().is_none_or(|before| " \t\"'`(=:<>|,;".contains(before)))
}

fn is_rust(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rs")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &str, content: impl Into<Vec<u8>>) -> Vec<String> {
        breaches(&[File { path: path.into(), content: content.into() }])
    }

    #[test]
    fn a_good_file_has_no_breach() {
        assert_eq!(of("src/parser.rs", "//! Parses.\nfn parse() {}\n"), Vec::<String>::new());
    }

    #[test]
    fn each_rule_is_kept() {
        let long = "\n".repeat(601);
        for (path, content, expected) in [
            ("a.rs", long.as_str(), "a.rs: 601 lines; split it, the limit is 600"),
            ("src/utils.rs", "", "src/utils.rs: name the module by what it holds"),
            ("a.toml", &format!("x\nurl = \"https{}pypi.example\"", "://"), "a.toml:2: names the registry pypi."),
            ("a.md", &format!("see {}work/x", "/"), "a.md:1: names a path under /work, which is one machine's"),
            (
                "a.pem",
                &format!("-----BEGIN RSA {}-----", "PRIVATE KEY"),
                "a.pem:1: holds a private key; tests make their own",
            ),
            ("a.rs", &format!("// {}{}: later", "TO", "DO"), "a.rs:1: is unfinished"),
            ("a.o", "\x7fELF\x02", "a.o: a program or object; everything is built from source"),
        ] {
            assert_eq!(of(path, content), [expected]);
        }
    }

    #[test]
    fn what_only_looks_like_a_breach_is_none() {
        assert_eq!(of("fuzz/Cargo.lock", format!("https{}index.crates.io", "://")), Vec::<String>::new());
        assert_eq!(of("a.rs", format!("let path = format!(\"/proc/{{pid}}{}root/etc\");", "/")), Vec::<String>::new());
        assert_eq!(of("docs/long.md", "\n".repeat(900)), Vec::<String>::new());
        assert_eq!(of("corpus/x", [0xff, 0xfe, 0x00]), Vec::<String>::new());
    }
}
