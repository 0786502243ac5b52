//! Checks of the tree that no compiler makes: house rules, what must not be committed, licences of dependencies.

mod licences;
mod tree;

use anyhow::{Result, bail};

use crate::process::say;

/// Makes all checks.
///
/// # Errors
/// Names every breach.
pub(crate) fn run_checks() -> Result<()> {
    let files = tree::files()?;
    let mut breaches = tree::breaches(&files);
    breaches.extend(licences::breaches()?);
    if breaches.is_empty() {
        say(format!("{} files keep the house rules; every dependency's licence is allowed", files.len()));
        return Ok(());
    }
    bail!("{} breaches of the house rules:\n  {}", breaches.len(), breaches.join("\n  "));
}
