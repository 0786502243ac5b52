//! The criterion benches: runs them briefly and reads the estimates they leave.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::process::{cargo, read, root, run};

/// What one criterion bench measured.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Part {
    /// Its full name.
    pub(crate) name: String,
    /// Median time of an iteration, nanoseconds.
    pub(crate) nanoseconds: f64,
    /// Elements an iteration works on, and whether they are bytes.
    pub(crate) throughput: Option<(f64, bool)>,
}

impl Part {
    /// Elements or bytes a second.
    pub(crate) fn rate(&self) -> Option<String> {
        let (elements, bytes) = self.throughput?;
        let per_second = elements * 1e9 / self.nanoseconds;
        Some(if bytes {
            format!("{:.0} MiB/s", per_second / 1_048_576.0)
        } else {
            format!("{:.3} M/s", per_second / 1e6)
        })
    }
}

/// Runs every bench of the workspace.
///
/// # Errors
/// When one does not build or run.
pub(crate) fn measure() -> Result<Vec<Part>> {
    let results = root().join("target/criterion");
    // Results of benches that no longer exist would be read too.
    drop(fs::remove_dir_all(&results));
    for (package, bench) in benches()? {
        run(cargo()
            .args(["bench", "--locked", "--package", &package, "--bench", &bench, "--"])
            .args(["--warm-up-time", "1", "--measurement-time", "2", "--noplot"])
            .env("CRITERION_HOME", &results))?;
    }
    let mut parts = Vec::new();
    collect(&results, &mut parts)?;
    parts.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(parts)
}

fn benches() -> Result<Vec<(String, String)>> {
    let mut command = cargo();
    let metadata: Value =
        serde_json::from_str(&read(command.args(["metadata", "--format-version=1", "--no-deps", "--locked"]))?)?;
    let mut benches = Vec::new();
    for package in metadata["packages"].as_array().context("cargo metadata lists no packages")? {
        for target in package["targets"].as_array().into_iter().flatten() {
            if target["kind"][0] == "bench"
                && let (Some(package), Some(bench)) = (package["name"].as_str(), target["name"].as_str())
            {
                benches.push((package.to_owned(), bench.to_owned()));
            }
        }
    }
    Ok(benches)
}

/// Criterion leaves a folder `new` with two files for each bench, at any depth.
fn collect(folder: &Path, parts: &mut Vec<Part>) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let path = entry?.path();
        if !path.is_dir() {
            continue;
        }
        if path.file_name().is_some_and(|name| name == "new") && path.join("benchmark.json").exists() {
            parts.extend(part(&json(&path.join("benchmark.json"))?, &json(&path.join("estimates.json"))?));
        } else {
            collect(&path, parts)?;
        }
    }
    Ok(())
}

fn json(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}

fn part(benchmark: &Value, estimates: &Value) -> Option<Part> {
    let throughput = &benchmark["throughput"];
    let elements = throughput["Elements"].as_f64().map(|count| (count, false));
    Some(Part {
        name: benchmark["full_id"].as_str()?.to_owned(),
        nanoseconds: estimates["median"]["point_estimate"].as_f64()?,
        throughput: elements.or_else(|| Some((throughput["Bytes"].as_f64()?, true))),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn estimates_become_rates() {
        let benchmark = json!({"full_id": "judge/bearer", "throughput": {"Elements": 100}});
        let estimates = json!({"median": {"point_estimate": 50_000.0}});
        let part = part(&benchmark, &estimates).expect("both files are whole");
        assert_eq!(part.name, "judge/bearer");
        assert_eq!(part.rate().as_deref(), Some("2.000 M/s"));
        let bytes = Part { throughput: Some((1_048_576.0, true)), nanoseconds: 1e6, ..part };
        assert_eq!(bytes.rate().as_deref(), Some("1000 MiB/s"));
    }
}
