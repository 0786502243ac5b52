//! What is known of a call when an expression asks: present, absent, or not known. What was not seen is never absent.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use auditor_wire::exchange::{Request, UnknownReason};
use cel::{
    Value,
    common::{
        types::{CelBool, CelInt, CelString},
        value::{CowVal, Val},
    },
    context::VariableResolver,
    objects::{Key, Map},
};

use super::types::Asked;
use crate::{
    credentials::{Claims, Credential, CustomValue},
    judgement::{Party, Tls},
    policy::{
        route,
        rulebook::{pattern::Segments, require},
    },
};

/// Entries of a list claim that are kept: a longer list was cut.
const LIST_LIMIT: usize = 16;

/// One call, and one of its credentials, as expressions see them.
pub(in crate::policy) struct Facts<'a> {
    pub(in crate::policy) source: &'a Party,
    pub(in crate::policy) destination: &'a Party,
    pub(in crate::policy) request: &'a Request,
    /// Why the request may hold more than was seen.
    pub(in crate::policy) unknown: Option<UnknownReason>,
    pub(in crate::policy) path: &'a Segments<'a>,
    /// What the route's pattern captures: segment and name.
    pub(in crate::policy) captures: &'a [(usize, Box<str>)],
    pub(in crate::policy) tls: Option<&'a Tls>,
    pub(in crate::policy) credential: Option<&'a Credential>,
}

/// What is known of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Known<T> {
    Present(T),
    Absent,
    Unknown,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Datum<'a> {
    Text(Cow<'a, str>),
    Number(i64),
    Flag(bool),
    Texts(Vec<&'a str>),
}

fn text<'a>(text: Option<&'a str>, otherwise: Known<Datum<'a>>) -> Known<Datum<'a>> {
    text.map_or(otherwise, |text| Known::Present(Datum::Text(Cow::Borrowed(text))))
}

impl Facts<'_> {
    /// What is known of the attribute at a path.
    pub(super) fn look(&self, path: &str) -> Known<Datum<'_>> {
        // The names of records are short: looking at each byte is cheaper than what looks at many at once.
        let Some(point) = path.bytes().position(|byte| byte == b'.') else { return Known::Absent };
        let (record, field) = (&path[..point], &path[point + 1..]);
        match record {
            "source" => party(self.source, field),
            "destination" => party(self.destination, field),
            "request" => self.request(field),
            "path" => {
                let at = self.captures.iter().find(|(_, name)| **name == *field).map(|(at, _)| *at);
                text(at.and_then(|at| self.path.get(at)), Known::Absent)
            }
            "transport" => self.transport(field),
            "credential" => self.credential(field),
            _ => self.claim(field),
        }
    }

    /// Why an attribute is not known.
    pub(super) fn why(&self, path: &str) -> &'static str {
        match path.split_once('.') {
            Some(("claims", name)) if self.custom(name) == Some(&CustomValue::Unrecorded) => {
                "the recording does not hold a claim that it asks for"
            }
            Some(("claims", _)) => "a claim was not read",
            Some(("source" | "destination", _)) => "a workload is not known",
            Some(("transport", _)) => "TLS does not show what it asks for",
            _ => "not everything it asks for was seen",
        }
    }

    fn request(&self, field: &str) -> Known<Datum<'_>> {
        match field {
            "method" => text(Some(&self.request.method), Known::Unknown),
            "path" => text(Some(&self.request.path), Known::Unknown),
            "route" => Known::Present(Datum::Text(route::route(&self.request.path).into_string().into())),
            _ => text(self.request.authority.as_deref(), self.absent()),
        }
    }

    /// What is not in a request that was seen whole is not there.
    fn absent<T>(&self) -> Known<T> {
        if self.unknown.is_some() { Known::Unknown } else { Known::Absent }
    }

    fn transport(&self, field: &str) -> Known<Datum<'_>> {
        let Some(tls) = self.tls else {
            let plaintext = Known::Present(Datum::Text("plaintext".into()));
            return if field == "security" { plaintext } else { Known::Absent };
        };
        match field {
            "security" => text(Some(if tls.client.identifies() { "mtls" } else { "tls" }), Known::Unknown),
            "version" => text(tls.version.as_deref(), Known::Unknown),
            "sni" => text(tls.sni.as_deref(), Known::Unknown),
            "resumed" => tls.resumed.map_or(Known::Unknown, |resumed| Known::Present(Datum::Flag(resumed))),
            _ => match tls.client_chain.as_deref() {
                Some(chain) if field.ends_with("spiffe_id") => {
                    text(chain.leaf.spiffe_id.as_ref().map(crate::certificates::SpiffeId::as_str), Known::Absent)
                }
                Some(chain) => text(chain.leaf.subject.as_deref(), Known::Absent),
                None if tls.client.gave_none() => Known::Absent,
                None => Known::Unknown,
            },
        }
    }

    fn credential(&self, field: &str) -> Known<Datum<'_>> {
        let Some(credential) = self.credential else { return self.absent() };
        let word = match field {
            "kind" => credential.kind.as_str(),
            "carrier" => &*credential.carrier,
            _ => require::signature(credential).as_str(),
        };
        text(Some(word), Known::Unknown)
    }

    fn claim(&self, name: &str) -> Known<Datum<'_>> {
        let Some(credential) = self.credential else { return self.absent() };
        let Some(claims) = credential.claims.as_deref() else { return self.absent() };
        if !claims.readable {
            return Known::Unknown;
        }
        if super::attributes::is_registered(name) {
            return registered(claims, name);
        }
        match credential.custom.as_deref().map(|custom| custom.get(name)) {
            Some(Some(CustomValue::Text(text))) => Known::Present(Datum::Text(Cow::Borrowed(text))),
            Some(Some(CustomValue::Number(number))) => Known::Present(Datum::Number(*number)),
            Some(Some(CustomValue::Flag(flag))) => Known::Present(Datum::Flag(*flag)),
            Some(Some(CustomValue::List(list))) => {
                Known::Present(Datum::Texts(list.iter().map(|item| item.as_str()).collect()))
            }
            Some(None) => Known::Absent,
            Some(Some(CustomValue::Unread | CustomValue::Unrecorded)) | None => Known::Unknown,
        }
    }

    /// A private claim.
    fn custom(&self, name: &str) -> Option<&CustomValue> {
        self.credential?.custom.as_deref()?.get(name)
    }
}

/// A claim that is read of every token. What was cut or made printable is not what the token said.
fn registered<'a>(claims: &'a Claims, name: &str) -> Known<Datum<'a>> {
    let one = |claim: &'a Option<Box<str>>| match claim.as_deref() {
        Some(claim) if !require::is_whole(claim) => Known::Unknown,
        claim => text(claim, Known::Absent),
    };
    let list = |list: &'a [Box<str>]| {
        if list.is_empty() {
            Known::Absent
        } else if list.len() >= LIST_LIMIT || !list.iter().all(|item| require::is_whole(item)) {
            Known::Unknown
        } else {
            Known::Present(Datum::Texts(list.iter().map(AsRef::as_ref).collect()))
        }
    };
    let time = |time: Option<i64>| time.map_or(Known::Absent, |time| Known::Present(Datum::Number(time)));
    match name {
        "aud" => list(&claims.aud),
        "client_id" => one(&claims.client_id),
        "exp" => time(claims.exp),
        "iat" => time(claims.iat),
        "iss" => one(&claims.iss),
        "nbf" => time(claims.nbf),
        "roles" => list(&claims.roles),
        "scope" => list(&claims.scope),
        _ => one(&claims.sub),
    }
}

fn party<'a>(party: &'a Party, field: &str) -> Known<Datum<'a>> {
    let workload = party.workload.as_deref();
    match field {
        "workload" => text(workload, Known::Unknown),
        "namespace" => match workload.map(|name| name.split_once('/')) {
            None => Known::Unknown,
            // A namespace's name has no colon (RFC 1123 label): `node:cart/server.js` is a script.
            Some(Some((namespace, _))) if !namespace.contains(':') => text(Some(namespace), Known::Absent),
            Some(_) => Known::Absent,
        },
        "address" | "port" if party.address.ip().is_none() => Known::Absent,
        "address" => Known::Present(Datum::Text(party.address.to_string().into())),
        "port" => Known::Present(Datum::Number(party.port.into())),
        _ => text(party.process.as_ref().and_then(|process| process.executable.as_deref()), Known::Unknown),
    }
}

/// Gives an expression the attributes it asks for.
pub(super) struct Scope<'a> {
    pub(super) facts: &'a Facts<'a>,
    pub(super) asked: &'a [Asked],
}

impl VariableResolver for Scope<'_> {
    fn resolve<'b>(&'b self, name: &str) -> Option<CowVal<'b, 'b>> {
        if self.asked.iter().any(|asked| *asked.path == *name) {
            return match self.facts.look(name) {
                Known::Present(datum) => single(datum),
                Known::Absent | Known::Unknown => None,
            };
        }
        if !super::attributes::RECORDS.contains(&name) {
            return None;
        }
        // `has(claims.tenant)`, `"tenant" in claims` and `claims["tenant"]` want the record itself.
        let fields = self.asked.iter().filter_map(|asked| {
            let field = asked.path.strip_prefix(name)?.strip_prefix('.')?;
            // A name of a claim may hold dots; a record within a record is asked for by its own name.
            if name != "claims" && field.contains('.') {
                return None;
            }
            match self.facts.look(&asked.path) {
                Known::Present(datum) => Some((Key::from(field.to_owned()), value(datum))),
                Known::Absent | Known::Unknown => None,
            }
        });
        let map: HashMap<Key, Value> = fields.collect();
        boxed(Value::Map(Map { map: Arc::new(map) }))
    }
}

fn single(datum: Datum<'_>) -> Option<CowVal<'_, '_>> {
    Some(match datum {
        Datum::Text(Cow::Borrowed(text)) => CowVal::owned(CelString::from(text)),
        Datum::Text(Cow::Owned(text)) => CowVal::owned(CelString::from(text)),
        Datum::Number(number) => CowVal::owned(CelInt::from(number)),
        Datum::Flag(flag) => CowVal::owned(CelBool::from(flag)),
        list @ Datum::Texts(_) => return boxed(value(list)),
    })
}

fn value(datum: Datum<'_>) -> Value {
    let text = |text: &str| Value::String(Arc::new(text.to_owned()));
    match datum {
        Datum::Text(part) => text(&part),
        Datum::Number(number) => Value::Int(number),
        Datum::Flag(flag) => Value::Bool(flag),
        Datum::Texts(list) => Value::List(Arc::new(list.into_iter().map(text).collect())),
    }
}

fn boxed<'b>(value: Value) -> Option<CowVal<'b, 'b>> {
    let value: Box<dyn Val> = value.try_into().ok()?;
    Some(CowVal::Owned(value))
}
