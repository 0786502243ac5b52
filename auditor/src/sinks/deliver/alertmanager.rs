//! Alertmanager, API version 2: every group that was seen lately is an alert. It is sent again at intervals while it is active, ends a
//! while after it was last seen, and its end is told once.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::{
    Client, Complaint, Deliver, Item, SharedCounts,
    backoff::Backoff,
    payload::{Words, json},
};
use crate::evidence::Group;

/// Alerts in one request at most.
const AT_ONCE: usize = 200;
/// Longest label value and annotation, bytes.
const LABEL_BYTES: usize = 256;
const ANNOTATION_BYTES: usize = 2048;
/// A new alert goes out after this time at the latest, with those that came meanwhile.
const GATHER: Duration = Duration::from_secs(2);

/// Keeps an Alertmanager up to date.
#[derive(Debug)]
pub struct Alertmanager {
    client: Client,
    resolve_after: SignedDuration,
    /// Most alerts that wait or are active.
    limit: usize,
    /// Labels that every alert gets, unless it has them already.
    labels: BTreeMap<String, String>,
    /// What is to be sent, by its labels: the newest state of each alert.
    waiting: BTreeMap<Labels, Alert>,
    /// What was told as active, and until when.
    active: HashMap<Labels, Alert>,
    since: Option<Instant>,
    backoff: Backoff,
    counts: SharedCounts,
    complaint: Complaint,
}

type Labels = BTreeMap<String, String>;

/// `postableAlert` of the API.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Alert {
    labels: Labels,
    annotations: BTreeMap<&'static str, String>,
    starts_at: Timestamp,
    ends_at: Timestamp,
}

impl Alertmanager {
    /// `client` sends to `/api/v2/alerts` of an Alertmanager. An alert ends `resolve_after` its group was last seen. At most `limit`
    /// alerts are kept.
    #[must_use]
    pub fn new(
        client: Client,
        resolve_after: SignedDuration,
        limit: usize,
        labels: BTreeMap<String, String>,
        counts: SharedCounts,
    ) -> Self {
        Self {
            client,
            resolve_after,
            limit,
            labels,
            waiting: BTreeMap::new(),
            active: HashMap::new(),
            since: None,
            backoff: Backoff::default(),
            counts,
            complaint: Complaint::new("alertmanager"),
        }
    }

    fn alert(&self, group: &Group) -> Alert {
        let words = Words::of(group);
        let mut labels = Labels::new();
        let named = [
            ("alertname", words.rule),
            ("rule", words.rule),
            ("severity", words.severity.as_str()),
            ("source_workload", &words.source.workload),
            ("source_namespace", &words.source.namespace),
            ("source_address", &words.source.address),
            ("destination_workload", &words.destination.workload),
            ("destination_namespace", &words.destination.namespace),
            ("destination_address", &words.destination.address),
            ("method", &words.method),
            ("route", &words.route),
            ("protocol", &words.protocol),
        ];
        let more = self.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in named.into_iter().chain(more) {
            // An empty label is none.
            if !value.is_empty() && !labels.contains_key(name) {
                labels.insert(name.to_owned(), cut(value, LABEL_BYTES));
            }
        }
        let mut annotations = BTreeMap::from([
            ("summary", words.summary()),
            ("example", words.example.clone()),
            ("count", group.seen.count.to_string()),
        ]);
        if let Some(rule) = words.text {
            annotations.insert("description", rule.explanation.to_owned());
            annotations.insert("remedy", rule.remedy.to_owned());
            annotations.insert("link", rule.link.to_owned());
        }
        annotations.values_mut().for_each(|text| *text = cut(text, ANNOTATION_BYTES));
        let ends_at = group.seen.last.saturating_add(self.resolve_after).unwrap_or(Timestamp::MAX);
        Alert { labels, annotations, starts_at: group.seen.first, ends_at }
    }

    /// Queues an alert; one that is over already is not begun.
    fn queue(&mut self, group: &Group, now: Timestamp) {
        let alert = self.alert(group);
        if alert.ends_at <= now {
            return;
        }
        if self.waiting.len() < self.limit || self.waiting.contains_key(&alert.labels) {
            self.waiting.insert(alert.labels.clone(), alert);
        } else {
            self.counts.give_up(1);
        }
    }

    /// Queues the end of what was told as active and is over.
    fn resolve(&mut self, now: Timestamp) {
        let over = self.active.extract_if(|_, alert| alert.ends_at <= now);
        for (labels, alert) in over {
            self.waiting.entry(labels).or_insert(alert);
        }
    }

    /// Sends what waits, a part at a time. Whether all of it was taken.
    fn send(&mut self, now: Instant) -> bool {
        while !self.waiting.is_empty() {
            let part: Vec<&Alert> = self.waiting.values().take(AT_ONCE).collect();
            let size = part.len();
            let result = self.client.post(&json(&part), &[("content-type", "application/json")]);
            let retried = match &result {
                Ok(()) => {
                    self.complaint.succeeded();
                    false
                }
                Err(refusal) => {
                    self.counts.fail();
                    self.complaint.failed(refusal, now);
                    self.backoff.failed(now, refusal.after);
                    refusal.retry
                }
            };
            if retried {
                return false;
            }
            for _ in 0..size {
                let Some((labels, alert)) = self.waiting.pop_first() else { break };
                // One that is not kept ends all the same, at the time it was told with.
                let is_kept = self.active.len() < self.limit || self.active.contains_key(&labels);
                if result.is_ok() && is_kept && alert.ends_at > Timestamp::now() {
                    self.active.insert(labels, alert);
                }
            }
            if result.is_err() {
                self.counts.give_up(size);
                return false;
            }
        }
        self.backoff.succeeded();
        true
    }
}

impl Deliver for Alertmanager {
    fn take(&mut self, item: Item) {
        let now = Timestamp::now();
        match item {
            Item::Event(event) => self.queue(&event.group, now),
            Item::Active(groups) => {
                // All there is: what waited is in it, but for the ends that are still to be told.
                self.waiting.retain(|_, alert| alert.ends_at <= now);
                groups.iter().for_each(|group| self.queue(group, now));
                self.resolve(now);
            }
        }
    }

    fn work(&mut self, now: Instant) {
        if self.waiting.is_empty() {
            self.since = None;
            return;
        }
        let since = *self.since.get_or_insert(now);
        if self.backoff.is_over(now) && now.duration_since(since) >= GATHER {
            self.since = None;
            self.send(now);
        }
    }

    fn close(&mut self) {
        // What is active stays so until its end, which it was told with: the auditor may be back before.
        if !self.send(Instant::now()) {
            self.counts.give_up(self.waiting.len());
        }
    }
}

fn cut(text: &str, bytes: usize) -> String {
    text[..text.floor_char_boundary(bytes)].to_owned()
}
