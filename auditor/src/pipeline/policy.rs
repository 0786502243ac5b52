//! Keeps the judge's policy up to date, and tells how waivers do.

use jiff::civil::Date;

use crate::{
    policy::{
        Judge,
        rulebook::{
            Rulebook, WaiverState,
            follow::{Follower, Reread, today},
        },
    },
    sinks::metrics::Metrics,
};

/// The policy of a run that goes on.
pub(super) struct PolicyKeeper {
    follower: Follower,
    /// Times the file was read again: taken, refused.
    reloads: [u64; 2],
    /// When the policy in force was taken, seconds since the Unix epoch.
    loaded: i64,
    /// The day on which waivers were last looked at.
    told: Date,
}

impl PolicyKeeper {
    pub(super) fn new(follower: Follower) -> Self {
        Self { follower, reloads: [0; 2], loaded: jiff::Timestamp::now().as_second(), told: today() }
    }

    /// Takes what the follower has. What is wrong changes nothing. Returns whether calls may be judged otherwise from now on: by
    /// another policy, or because it is another day, on which waivers end.
    pub(super) fn keep(&mut self, judge: &mut Judge) -> bool {
        let mut changed = match self.follower.news() {
            Some(news) => self.take(news, judge),
            None => false,
        };
        let today = today();
        if self.told != today {
            self.told = today;
            tell_waivers(judge.policy(), today);
            changed = true;
        }
        changed
    }

    /// Whether another policy applies.
    pub(super) fn take(&mut self, news: Reread, judge: &mut Judge) -> bool {
        match news {
            Ok(rulebook) => {
                self.reloads[0] += 1;
                if rulebook.digest() == judge.policy().digest() {
                    tracing::info!("the policy was read again and is the same");
                    return false;
                }
                self.loaded = jiff::Timestamp::now().as_second();
                tell_policy(&rulebook);
                judge.set_policy(rulebook);
                true
            }
            Err(error) => {
                self.reloads[1] += 1;
                tracing::error!(%error, "the policy file is wrong; the policy before it stays in force");
                false
            }
        }
    }

    pub(super) fn figures(&self, judge: &Judge, metrics: &Metrics) {
        let waivers = judge.policy().waivers(today());
        let states = waivers.iter().map(|waiver| (&*waiver.note.name, waiver.state.as_str()));
        metrics.set_policy(judge.policy().digest(), self.loaded, states);
        for (result, total) in ["ok", "error"].into_iter().zip(self.reloads) {
            metrics.set_policy_reloads(result, total);
        }
    }
}

/// Says in the log what a policy holds that comes into force, and which of its waivers have expired.
pub fn tell_policy(rulebook: &Rulebook) {
    let routes = rulebook.route_names().count();
    tracing::info!(routes, waivers = rulebook.waiver_count(), digest = rulebook.digest(), "policy in force");
    tell(rulebook, today(), &[WaiverState::Expired]);
}

/// Says which waivers do not hold any more, and which nobody needed.
pub(super) fn tell_waivers(rulebook: &Rulebook, today: Date) {
    tell(rulebook, today, &[WaiverState::Expired, WaiverState::Unused]);
}

fn tell(rulebook: &Rulebook, today: Date, states: &[WaiverState]) {
    for waiver in rulebook.waivers(today).into_iter().filter(|waiver| states.contains(&waiver.state)) {
        let note = &waiver.note;
        let (name, owner, expires) = (&*note.name, &*note.owner, note.expires);
        match waiver.state {
            WaiverState::Expired => {
                tracing::warn!(name, owner, %expires, "a waiver has expired: what it waived is found again");
            }
            WaiverState::Unused => tracing::warn!(name, owner, %expires, "a waiver has waived nothing so far"),
            WaiverState::Active => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::Path,
        sync::{Arc, atomic::AtomicBool},
    };

    use super::*;
    use crate::{
        credentials::{Extractor, FingerprintKey},
        policy::rulebook::follow::Watched,
        sinks::metrics,
    };

    fn parsed(text: &str) -> Reread {
        Rulebook::parse(Path::new("policy.yaml"), text, today())
    }

    #[test]
    fn a_wrong_file_changes_nothing_and_a_right_one_applies() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("policy.yaml");
        fs::write(&file, "version: 1\n").expect("written");
        let follower = Follower::start(Watched::new(&file), Arc::new(AtomicBool::new(false))).expect("starts");
        let extractor = Extractor::new(crate::credentials::Settings::default(), FingerprintKey::from_bytes([7; 32]));
        let mut judge = Judge::new(crate::policy::Settings::default(), extractor);
        judge.set_policy(parsed("version: 1\nroutes:\n  - name: old\n").expect("valid"));
        let old = judge.policy().digest().to_owned();
        let mut keeper = PolicyKeeper::new(follower);
        let metrics = Metrics::new(metrics::Settings::default());
        let page = |keeper: &PolicyKeeper, judge: &Judge| {
            keeper.figures(judge, &metrics);
            metrics.render()
        };

        assert!(!keeper.take(parsed("version: 1\nroutes:\n  - nam: new\n"), &mut judge), "the policy stays");
        assert_eq!(judge.policy().route_names().map(|name| &**name).collect::<Vec<_>>(), ["old"]);
        let text = page(&keeper, &judge);
        for line in [
            "auditor_policy_reloads_total{result=\"error\"} 1",
            "auditor_policy_reloads_total{result=\"ok\"} 0",
            &format!("auditor_policy_info{{digest=\"{old}\"}} 1"),
        ] {
            assert!(text.contains(line), "no {line} in\n{text}");
        }

        let waiver = "waivers:\n  - {name: w, match: {path: /a}, owner: me, reason: x, expires: 2020-01-01}\n";
        let new = format!("version: 1\nroutes:\n  - name: new\n{waiver}");
        assert!(keeper.take(parsed(&new), &mut judge), "another policy");
        assert!(!keeper.take(parsed(&new), &mut judge), "the same again");
        assert_eq!(judge.policy().route_names().map(|name| &**name).collect::<Vec<_>>(), ["new"]);
        let text = page(&keeper, &judge);
        assert!(text.contains("auditor_policy_reloads_total{result=\"ok\"} 2"), "{text}");
        assert!(text.contains("auditor_waivers{name=\"w\",state=\"expired\"} 1"), "{text}");
        assert!(!text.contains(&old), "{text}");
    }
}
