//! One run of the oracle: the calls, the auditor beside them, and what comes of it.

use std::{collections::HashMap, time::Duration};

use anyhow::{Result, ensure};

use crate::{
    auditor::Auditor,
    clients::Answer,
    compare::{Comparison, Ours},
    plan::{Planned, Tolerance},
    rig::{Rig, require_answers},
};

/// How long records may take once all calls are made.
const SETTLE: Duration = Duration::from_secs(30);

/// A ring that loses nothing, however busy the machine: what is tested is what is said of what was seen.
pub const AMPLE: &str = "256MiB";

/// Runs the plan and the auditor beside it. `before` is carried out on the same connections before
/// the auditor starts, whose ring has the size `ring`. Prints the comparison.
///
/// # Errors
/// When the generator or the auditor fails; what is wrong with records is in the comparison.
pub fn judge(rig: &mut Rig, before: &[Planned], planned: &[Planned], ring: &str) -> Result<Comparison> {
    require_answers(before, &rig.run(before)?)?;
    let auditor = Auditor::watch(rig.directory(), &["--ring-bytes", ring])?;
    judge_beside(auditor, rig, planned)
}

/// Runs the plan beside an auditor that was started before. Prints the comparison.
///
/// # Errors
/// As [`judge`].
pub fn judge_beside(auditor: Auditor, rig: &mut Rig, planned: &[Planned]) -> Result<Comparison> {
    let answers = rig.run(planned)?;
    require_answers(planned, &answers)?;
    compare(auditor, rig, planned, &answers)
}

/// Holds what the auditor says against calls that were made, once it has said all it will, and stops it. Prints the comparison.
///
/// # Errors
/// When the auditor fails.
pub fn compare(
    mut auditor: Auditor,
    rig: &Rig,
    planned: &[Planned],
    answers: &HashMap<String, Answer>,
) -> Result<Comparison> {
    let servers = rig.answering()?;
    let ours = Ours::new(&servers, planned);
    // What is hidden or lost has no path to wait for; stopping brings out whatever is pending.
    let due = planned.iter().flat_map(|planned| &planned.expected);
    let due = due.filter(|expected| !matches!(expected.tolerance, Tolerance::Hidden | Tolerance::Lossy)).count();
    // Not an assertion: whatever has not come by then is missing in the table, which says more.
    let waited = auditor
        .wait_until(SETTLE, |records| records.iter().filter(|record| ours.path(record).is_some()).count() >= due);
    let finished = auditor.stop()?;
    ensure!(finished.status.success(), "the auditor ended with {}:\n{}", finished.status, finished.log);
    let comparison = Comparison::new(&servers, planned, answers, &finished.records)?;
    eprintln!("{comparison}");
    if let Err(error) = waited {
        eprintln!("{error:#}");
    }
    eprintln!("standard error of the auditor:\n{}", finished.log);
    Ok(comparison)
}
