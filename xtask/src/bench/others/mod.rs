//! What the auditor costs beside what people use instead: on the machine's own kernel in pairs of rounds, and in an emulated guest
//! that counts instructions.

mod guest;
mod machine;
mod watchers;

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

use super::{Options, table};
use crate::process::{print, root, say};

/// What stands between these in `docs/performance.md` is written by this.
const MARKERS: [&str; 2] = ["<!-- others: begin (written by `cargo xtask bench --others`) -->", "<!-- others: end -->"];

/// Measures all watchers, prints their tables and writes them into `docs/performance.md`.
///
/// # Errors
/// When a part of the rig is missing or fails; a watcher that does not start is no error.
pub(super) fn run_others(options: Options, auditor: &Path) -> Result<()> {
    let machine = machine::measure(options, auditor)?;
    say(&machine);
    let guest = guest::measure(auditor)?;
    let section = format!(
        "\n{}.\n\n### On the machine's own kernel\n\n{} pairs of rounds of {} s; at a fixed rate, {} requests/s.\n\n{machine}\n\
         ### Instructions in a guest\n\n{guest}",
        table::machine()?,
        options.rounds,
        options.seconds,
        options.rate
    );
    print(&section)?;
    if !options.no_write {
        let file = root().join("docs/performance.md");
        let document = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let document = table::replace_section(&document, MARKERS, &section)
            .with_context(|| format!("{} lacks the markers {MARKERS:?}", file.display()))?;
        fs::write(&file, document).with_context(|| file.display().to_string())?;
        say(format!("written into {}", file.display()));
    }
    Ok(())
}

/// A table in Markdown.
fn markdown(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut text = format!("| {} |\n|{}\n", head.join(" | "), "---|".repeat(head.len()));
    for row in rows {
        text += &format!("| {} |\n", row.join(" | "));
    }
    text
}

/// A row of what does not start: the rest of it is why.
fn absent(name: &str, reason: &str, columns: usize) -> Vec<String> {
    let mut row = vec![format!("{name} – does not start: {reason}")];
    row.resize(columns, String::new());
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_a_table_and_what_does_not_start_says_why() {
        let rows = [vec!["a".to_owned(), "1".to_owned()], absent("b", "no such hook", 2)];
        let expected = "| x | y |\n|---|---|\n| a | 1 |\n| b – does not start: no such hook |  |\n";
        assert_eq!(markdown(&["x", "y"], &rows), expected);
    }
}
