//! Licences and origins of dependencies, held against `deny.toml`. `cargo deny` makes the same check and more; it takes longer
//! to build than everything here.

use std::{collections::BTreeSet, fs};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::process::{cargo, read, root};

/// The only place dependencies come from, besides the workspace.
const ORIGIN: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Whose dependencies are looked at: the workspace, and the program of the gRPC tests, which is one of its own.
const WORKSPACES: [&str; 2] = [".", "tests/grpc/tonic"];

/// Every dependency whose licence or origin is not allowed.
///
/// # Errors
/// When `deny.toml` or cargo's metadata cannot be read.
pub(crate) fn breaches() -> Result<Vec<String>> {
    let path = root().join("deny.toml");
    let allowed = allowed(&fs::read_to_string(&path).with_context(|| path.display().to_string())?)?;
    let mut breaches = BTreeSet::new();
    for folder in WORKSPACES {
        let mut command = cargo();
        command.current_dir(root().join(folder)).args(["metadata", "--format-version=1", "--locked"]);
        let metadata: Value = serde_json::from_str(&read(&mut command)?)?;
        let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
        breaches.extend(packages.iter().filter_map(|package| breach(package, &allowed)));
    }
    Ok(breaches.into_iter().collect())
}

fn breach(package: &Value, allowed: &[String]) -> Option<String> {
    let name = format!("{} {}", package["name"].as_str()?, package["version"].as_str()?);
    if let Some(origin) = package["source"].as_str()
        && origin != ORIGIN
    {
        return Some(format!("{name}: comes from {origin}"));
    }
    let Some(licence) = package["license"].as_str() else {
        return Some(format!("{name}: states no licence"));
    };
    match Expression::new(licence).allowed(allowed) {
        Some(true) => None,
        Some(false) => Some(format!("{name}: licence {licence} is not among those deny.toml allows")),
        None => Some(format!("{name}: licence {licence:?} is no SPDX expression")),
    }
}

/// The `allow` list of `deny.toml`: one quoted name a line.
fn allowed(text: &str) -> Result<Vec<String>> {
    let names: Vec<String> = text
        .lines()
        .skip_while(|line| line.trim() != "allow = [")
        .skip(1)
        .take_while(|line| line.trim() != "]")
        .filter_map(|line| line.trim().strip_prefix('"')?.split('"').next().map(str::to_owned))
        .collect();
    if names.is_empty() {
        bail!("deny.toml allows no licence: expected `allow = [` and one quoted name a line");
    }
    Ok(names)
}

/// An SPDX licence expression: names joined by AND and OR, the former binding tighter; `/` is an old way to write OR.
struct Expression {
    words: Vec<String>,
    position: usize,
}

impl Expression {
    fn new(text: &str) -> Self {
        let spaced = text.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
        Self { words: spaced.split_whitespace().map(str::to_owned).collect(), position: 0 }
    }

    /// Whether the licences in `allowed` suffice; `None` when it is no expression.
    fn allowed(mut self, allowed: &[String]) -> Option<bool> {
        let result = self.either(allowed)?;
        (self.position == self.words.len()).then_some(result)
    }

    fn either(&mut self, allowed: &[String]) -> Option<bool> {
        let mut result = self.both(allowed)?;
        while self.take("OR") {
            result |= self.both(allowed)?;
        }
        Some(result)
    }

    fn both(&mut self, allowed: &[String]) -> Option<bool> {
        let mut result = self.one(allowed)?;
        while self.take("AND") {
            result &= self.one(allowed)?;
        }
        Some(result)
    }

    fn one(&mut self, allowed: &[String]) -> Option<bool> {
        if self.take("(") {
            let result = self.either(allowed)?;
            return self.take(")").then_some(result);
        }
        let mut name = self.words.get(self.position)?.clone();
        self.position += 1;
        if self.take("WITH") {
            name = format!("{name} WITH {}", self.words.get(self.position)?);
            self.position += 1;
        }
        Some(allowed.contains(&name))
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.words.get(self.position).is_some_and(|next| next == word);
        self.position += usize::from(found);
        found
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn expressions_are_understood() {
        let list = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned);
        for (text, expected) in [
            ("MIT", Some(true)),
            ("GPL-3.0-only", Some(false)),
            ("MIT OR GPL-3.0-only", Some(true)),
            ("MIT/Apache-2.0", Some(true)),
            ("MIT AND GPL-3.0-only", Some(false)),
            ("GPL-3.0-only OR MIT AND Apache-2.0", Some(true)),
            ("(GPL-3.0-only OR MIT) AND ISC", Some(false)),
            ("Apache-2.0 WITH LLVM-exception", Some(true)),
            ("MIT WITH LLVM-exception", Some(false)),
            ("(MIT", None),
            ("MIT MIT", None),
            ("", None),
        ] {
            assert_eq!(Expression::new(text).allowed(&list), expected, "{text}");
        }
    }

    #[test]
    fn the_list_is_read() {
        let text = "[licenses]\nallow = [\n    \"MIT\", # ours\n    \"ISC\",\n]\n";
        assert_eq!(allowed(text).expect("a list"), ["MIT", "ISC"]);
        assert!(allowed("[licenses]\n").is_err());
    }

    #[test]
    fn a_foreign_origin_and_a_missing_licence_are_breaches() {
        let list = ["MIT".to_owned()];
        let git = json!({"name": "a", "version": "1.0.0", "license": "MIT", "source": "git+https://example.org/a"});
        assert_eq!(breach(&git, &list).as_deref(), Some("a 1.0.0: comes from git+https://example.org/a"));
        let bare = json!({"name": "b", "version": "1.0.0", "license": null, "source": null});
        assert_eq!(breach(&bare, &list).as_deref(), Some("b 1.0.0: states no licence"));
    }
}
