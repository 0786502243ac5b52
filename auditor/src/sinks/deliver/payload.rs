//! A group in words and as JSON: what all sinks for findings say of it. Peers chose some of the text: it is printable here and
//! bounded where it was kept.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::ser::Serializer;

use super::super::{escape::Escaped, jsonl::Printable, workload_parts};
use crate::{
    evidence::{Call, Event, Example, Group, Occasion, Outcomes, Who},
    judgement::Severity,
    policy::rules::{Rule, rule},
};

/// An event as JSON.
#[derive(Serialize)]
pub(super) struct EventJson<'a> {
    event: Occasion,
    /// Calls since the last event of the group.
    calls: u64,
    rule: &'static str,
    severity: Severity,
    title: Option<&'static str>,
    remedy: Option<&'static str>,
    link: Option<&'static str>,
    source: WhoJson<'a>,
    destination: WhoJson<'a>,
    method: Option<&'a str>,
    route: Option<&'a str>,
    protocol: Option<&'a str>,
    first_seen: Timestamp,
    last_seen: Timestamp,
    count: u64,
    outcomes: Outcomes,
    example: ExampleJson<'a>,
}

#[derive(Serialize)]
struct WhoJson<'a> {
    workload: Option<&'a str>,
    namespace: Option<&'a str>,
    address: Option<String>,
}

#[derive(Serialize)]
struct ExampleJson<'a> {
    time: Timestamp,
    source: &'a str,
    destination: &'a str,
    command: Option<&'a str>,
    pid: Option<u32>,
    authority: Option<&'a str>,
    header_names: Option<Vec<&'a str>>,
    status: Option<u16>,
    detail: &'a str,
}

impl<'a> EventJson<'a> {
    pub(super) fn of(event: &'a Event) -> Self {
        let Group { identity, example, seen } = &event.group;
        let text = rule(identity.rule);
        let (method, route, protocol) = match &identity.call {
            Call::Request { method, route } => (Some(&**method), Some(&**route), None),
            Call::Unseen => (None, None, None),
            Call::Connection { protocol } => (None, None, Some(&**protocol)),
        };
        Self {
            event: event.occasion,
            calls: event.calls,
            rule: identity.rule,
            severity: seen.severity,
            title: text.map(|rule| rule.title),
            remedy: text.map(|rule| rule.remedy),
            link: text.map(|rule| rule.link),
            source: WhoJson::of(&identity.source),
            destination: WhoJson::of(&identity.destination),
            method,
            route,
            protocol,
            first_seen: seen.first,
            last_seen: seen.last,
            count: seen.count,
            outcomes: seen.outcomes,
            example: ExampleJson::of(example),
        }
    }
}

impl<'a> WhoJson<'a> {
    fn of(who: &'a Who) -> Self {
        match who {
            Who::Workload(name) => {
                let (namespace, workload) = workload_parts(name);
                let namespace = Some(namespace).filter(|namespace| !namespace.is_empty());
                Self { workload: Some(workload), namespace, address: None }
            }
            Who::Address(address) => Self { workload: None, namespace: None, address: Some(address.to_string()) },
        }
    }
}

impl<'a> ExampleJson<'a> {
    fn of(example: &'a Example) -> Self {
        let caller = example.caller.as_ref();
        Self {
            time: example.time,
            source: &example.source,
            destination: &example.destination,
            command: caller.map(|(command, _)| &**command),
            pid: caller.map(|(_, pid)| *pid),
            authority: example.authority.as_deref(),
            header_names: example.header_names.as_deref().map(|names| names.split(',').collect()),
            status: example.status,
            detail: &example.detail,
        }
    }
}

/// JSON in which every character is printable.
pub(super) fn json(value: &impl Serialize) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    // Maps here have text for keys, and a Vec takes everything.
    let written = value.serialize(&mut Serializer::with_formatter(&mut out, Printable));
    debug_assert!(written.is_ok(), "{written:?}");
    out
}

/// A group in words. Every text is printable.
pub(super) struct Words {
    pub(super) rule: &'static str,
    pub(super) severity: Severity,
    pub(super) text: Option<&'static Rule>,
    pub(super) source: WhoWords,
    pub(super) destination: WhoWords,
    pub(super) method: String,
    pub(super) route: String,
    pub(super) protocol: String,
    /// One call.
    pub(super) example: String,
}

/// One end of a call in words; what is not known is empty.
pub(super) struct WhoWords {
    pub(super) workload: String,
    pub(super) namespace: String,
    pub(super) address: String,
}

impl Words {
    pub(super) fn of(group: &Group) -> Self {
        let identity = &group.identity;
        let (method, route, protocol) = match &identity.call {
            Call::Request { method, route } => (&**method, &**route, ""),
            Call::Unseen => ("", "", ""),
            Call::Connection { protocol } => ("", "", &**protocol),
        };
        Self {
            rule: identity.rule,
            severity: group.seen.severity,
            text: rule(identity.rule),
            source: WhoWords::of(&identity.source),
            destination: WhoWords::of(&identity.destination),
            method: Escaped(method).to_string(),
            route: Escaped(route).to_string(),
            protocol: Escaped(protocol).to_string(),
            example: example(&group.example),
        }
    }

    /// `GET /items/{id}`, `tls`, or nothing.
    pub(super) fn call(&self) -> String {
        if self.method.is_empty() { self.protocol.clone() } else { format!("{} {}", self.method, self.route) }
    }

    /// `shop/cart -> shop/inventory GET /items/{id}: Internal call served without proof of identity`.
    pub(super) fn summary(&self) -> String {
        let mut summary = format!("{} -> {}", self.source.name(), self.destination.name());
        for (before, part) in [(" ", self.call().as_str()), (": ", self.text.map_or(self.rule, |rule| rule.title))] {
            if !part.is_empty() {
                let _ = write!(summary, "{before}{part}");
            }
        }
        summary
    }
}

impl WhoWords {
    fn of(who: &Who) -> Self {
        match who {
            Who::Workload(name) => {
                let (namespace, workload) = workload_parts(name);
                let [namespace, workload] = [namespace, workload].map(|part| Escaped(part).to_string());
                Self { workload, namespace, address: String::new() }
            }
            Who::Address(address) => {
                Self { workload: String::new(), namespace: String::new(), address: address.to_string() }
            }
        }
    }

    /// `shop/cart`, `curl`, `10.0.0.1`.
    pub(super) fn name(&self) -> String {
        match (self.namespace.is_empty(), self.workload.is_empty()) {
            (false, _) => format!("{}/{}", self.namespace, self.workload),
            (true, false) => self.workload.clone(),
            (true, true) => self.address.clone(),
        }
    }
}

/// `2026-11-22T01:23:45Z 10.0.0.1:51234 -> 10.0.0.2:8080 inventory -> 200, by curl (pid 812), headers host,accept: no proof`.
fn example(example: &Example) -> String {
    let mut text = format!("{:.0} {} -> {}", example.time, Escaped(&example.source), Escaped(&example.destination));
    if let Some(authority) = &example.authority {
        let _ = write!(text, " {}", Escaped(authority));
    }
    if let Some(status) = example.status {
        let _ = write!(text, " answered {status}");
    }
    if let Some((command, pid)) = &example.caller {
        let _ = write!(text, ", by {} (pid {pid})", Escaped(command));
    }
    if let Some(names) = &example.header_names {
        let _ = write!(text, ", headers {}", Escaped(names));
    }
    if !example.detail.is_empty() {
        let _ = write!(text, ": {}", Escaped(&example.detail));
    }
    text
}
