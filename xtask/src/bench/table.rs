//! Prints what was measured, and keeps it in a document between two markers.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result};

use super::{Options, criterion::Part};
use crate::process::read;

/// What stands between these is written by this.
const MARKERS: [&str; 2] = ["<!-- measured: begin (written by `cargo xtask bench`) -->", "<!-- measured: end -->"];

/// A figure, its spread and its target.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    name: String,
    unit: &'static str,
    digits: usize,
    median: f64,
    quartiles: Option<(f64, f64)>,
    target: Option<Target>,
}

#[derive(Clone, Copy, Debug)]
enum Target {
    AtLeast(f64),
    AtMost(f64),
}

impl Row {
    /// A figure that was measured once.
    pub(crate) fn value(name: &str, unit: &'static str, digits: usize, value: f64) -> Self {
        Self { name: name.to_owned(), unit, digits, median: value, quartiles: None, target: None }
    }

    /// The median of several, and their quartiles.
    pub(crate) fn spread(name: &str, unit: &'static str, digits: usize, values: &[f64]) -> Self {
        let [low, median, high] = quartiles(values);
        Self { quartiles: Some((low, high)), ..Self::value(name, unit, digits, median) }
    }

    /// The median of many, and between what it lies with 95 % certainty, whatever their distribution: by their order alone
    /// (binomial, so within 0.98 of the root of their number around the middle).
    pub(crate) fn interval(name: &str, unit: &'static str, digits: usize, values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let half = 0.98 / count(sorted.len().max(4)).sqrt();
        let quartiles = Some((quantile(&sorted, 0.5 - half), quantile(&sorted, 0.5 + half)));
        Self { quartiles, ..Self::value(name, unit, digits, quantile(&sorted, 0.5)) }
    }

    /// With a target it must reach.
    pub(crate) fn at_least(self, target: f64) -> Self {
        Self { target: Some(Target::AtLeast(target)), ..self }
    }

    /// With a target it must not exceed.
    pub(crate) fn at_most(self, target: f64) -> Self {
        Self { target: Some(Target::AtMost(target)), ..self }
    }

    fn cells(&self) -> [String; 4] {
        let digits = self.digits;
        let spread = self.quartiles.map_or_else(String::new, |(low, high)| format!("{low:.digits$} - {high:.digits$}"));
        let target = match self.target {
            None => String::new(),
            Some(Target::AtLeast(target)) => format!(">= {target}: {}", reached(self.median >= target)),
            Some(Target::AtMost(target)) => format!("<= {target}: {}", reached(self.median <= target)),
        };
        [self.name.clone(), format!("{:.digits$} {}", self.median, self.unit), spread, target]
    }
}

fn reached(reached: bool) -> &'static str {
    if reached { "reached" } else { "not reached" }
}

/// First quartile, median and third quartile.
pub(crate) fn quartiles(values: &[f64]) -> [f64; 3] {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    [0.25, 0.5, 0.75].map(|share| quantile(&sorted, share))
}

/// Linear interpolation between the two nearest of sorted values; 0 of none.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let position = share * count(last);
    let below = (0..=last).take_while(|index| count(*index) <= position).last().unwrap_or(0);
    let above = (below + 1).min(last);
    sorted[below] + (sorted[above] - sorted[below]) * (position - count(below))
}

fn count(index: usize) -> f64 {
    f64::from(u32::try_from(index).unwrap_or(u32::MAX))
}

/// The table for the terminal.
pub(crate) fn text(rows: &[Row], parts: &[Part]) -> String {
    let mut lines = vec![["what", "median", "quartiles", "target"].map(str::to_owned)];
    lines.extend(rows.iter().map(Row::cells));
    let mut text = aligned(&lines);
    if !parts.is_empty() {
        let mut lines = vec![["part", "ns", "rate", ""].map(str::to_owned)];
        lines.extend(parts.iter().map(part_cells));
        text.push('\n');
        text += &aligned(&lines);
    }
    text
}

fn part_cells(part: &Part) -> [String; 4] {
    [part.name.clone(), format!("{:.0}", part.nanoseconds), part.rate().unwrap_or_default(), String::new()]
}

fn aligned(lines: &[[String; 4]]) -> String {
    let width = |column: usize| lines.iter().map(|cells| cells[column].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2)];
    let line = |[a, b, c, d]: &[String; 4]| {
        let text = format!("{a:<0$}  {b:>1$}  {c:>2$}  {d}", widths[0], widths[1], widths[2]);
        format!("{}\n", text.trim_end())
    };
    lines.iter().map(line).collect()
}

/// Writes the section between the markers of `file`; the rest of it is left alone.
///
/// # Errors
/// When the file has no markers or cannot be written.
pub(crate) fn write(file: &Path, rows: &[Row], parts: &[Part], options: Options) -> Result<()> {
    let document = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let section = markdown(rows, parts, options)?;
    let document = replace_section(&document, MARKERS, &section)
        .with_context(|| format!("{} lacks the markers {MARKERS:?}", file.display()))?;
    fs::write(file, document).with_context(|| file.display().to_string())
}

/// The document with another section between two markers; `None` when it lacks one.
pub(crate) fn replace_section(document: &str, [begin, end]: [&str; 2], section: &str) -> Option<String> {
    let (head, rest) = document.split_once(begin)?;
    let (_, tail) = rest.split_once(end)?;
    Some(format!("{head}{begin}\n{section}\n{end}{tail}"))
}

fn markdown(rows: &[Row], parts: &[Part], options: Options) -> Result<String> {
    let mut text = format!(
        "\n{}; {} pairs of rounds of {} s.\n\n| what | median | quartiles | target |\n|---|---|---|---|\n",
        machine()?,
        options.rounds,
        options.seconds
    );
    for [name, median, quartiles, target] in rows.iter().map(Row::cells) {
        text += &format!("| {name} | {median} | {quartiles} | {target} |\n");
    }
    if !parts.is_empty() {
        text += "\n| part | ns per iteration | rate |\n|---|---|---|\n";
        for [name, nanoseconds, rate, _] in parts.iter().map(part_cells) {
            text += &format!("| `{name}` | {nanoseconds} | {rate} |\n");
        }
    }
    Ok(text)
}

/// Processor, kernel and compiler of this run.
///
/// # Errors
/// When they cannot be asked.
pub(crate) fn machine() -> Result<String> {
    let processors = fs::read_to_string("/proc/cpuinfo")?;
    let model = processors
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown processor", |(_, model)| model);
    let count = processors.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = read(Command::new("uname").arg("-r"))?;
    let compiler = read(Command::new("rustc").arg("--version"))?;
    Ok(format!("{model}, {count} processors, Linux {}, {}", kernel.trim(), compiler.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_narrow_where_there_are_many() {
        let values: Vec<f64> = (0..=400).map(f64::from).collect();
        let [_, median, interval, _] = Row::interval("x", "s", 0, &values).cells();
        assert_eq!((median.as_str(), interval.as_str()), ("200 s", "180 - 220"));
    }

    #[test]
    fn medians_and_quartiles() {
        let row = Row::spread("x", "us", 2, &[5.0, 1.0, 3.0, 2.0, 4.0]).at_most(2.0);
        assert_eq!(row.cells(), ["x", "3.00 us", "2.00 - 4.00", "<= 2: not reached"]);
        assert_eq!(Row::spread("x", "us", 2, &[1.0, 2.0]).cells()[1], "1.50 us");
        assert_eq!(Row::spread("x", "us", 2, &[7.0]).cells()[2], "7.00 - 7.00");
        assert_eq!(Row::value("x", "ratio", 1, 0.96).at_least(0.95).cells()[3], ">= 0.95: reached");
    }

    #[test]
    fn only_what_stands_between_the_markers_is_replaced() {
        let [begin, end] = MARKERS;
        let document = format!("before\n{begin}\nold\n{end}\nafter\n");
        let replaced = replace_section(&document, MARKERS, "new").expect("both markers are there");
        assert_eq!(replaced, format!("before\n{begin}\nnew\n{end}\nafter\n"));
        assert_eq!(replace_section("no markers", MARKERS, "new"), None);
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [Row::value("short", "ns", 0, 5.0), Row::value("much longer", "ns", 0, 12345.0)];
        let text = text(&rows, &[]);
        let ends: Vec<Option<usize>> = text.lines().skip(1).map(|line| line.find(" ns")).collect();
        assert_eq!(ends[0], ends[1], "{text}");
    }
}
