//! What the report says of waivers: what is waived until when, and by whom; which do not hold any more; which nobody needed.

use super::{
    super::escape::markdown,
    view::{number, plural},
};
use crate::policy::rulebook::{WaiverState, WaiverStatus};

/// The waivers, those that need attention first.
pub(super) fn sorted(waivers: &[WaiverStatus]) -> Vec<&WaiverStatus> {
    let mut sorted: Vec<_> = waivers.iter().collect();
    let rank = |state| match state {
        WaiverState::Expired => 0,
        WaiverState::Unused => 1,
        WaiverState::Active => 2,
    };
    sorted.sort_by_key(|waiver| (rank(waiver.state), waiver.note.expires, waiver.note.name.clone()));
    sorted
}

/// One waiver in a line of text.
pub(super) fn line(waiver: &WaiverStatus) -> String {
    let note = &waiver.note;
    let state = match waiver.state {
        WaiverState::Expired => format!("expired on {}; what it waived is found again", note.expires),
        WaiverState::Unused => format!("until {}; it waived nothing", note.expires),
        WaiverState::Active => {
            format!("until {}; it waived {}", note.expires, plural(waiver.used, "finding", "findings"))
        }
    };
    format!("{} ({}): {state}. Reason: {}", note.name, note.owner, waiver.reason)
}

/// The section in Markdown; nothing without waivers.
pub(super) fn render_markdown(text: &mut String, waivers: &[WaiverStatus]) {
    if waivers.is_empty() {
        return;
    }
    if !text.ends_with("\n\n") {
        text.push('\n');
    }
    text.push_str(
        "## Waivers\n\n| Waiver | State | Until | Findings waived | Owner | Reason |\n|---|---|---|---:|---|---|\n",
    );
    for waiver in sorted(waivers) {
        let note = &waiver.note;
        let cells = [
            markdown(&note.name),
            waiver.state.as_str().to_owned(),
            note.expires.to_string(),
            number(waiver.used),
            markdown(&note.owner),
            markdown(&waiver.reason),
        ];
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    text.push('\n');
}
