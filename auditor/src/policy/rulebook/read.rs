//! From a policy file to a [`Rulebook`]: what is wrong ends here, with its line, the reason and the remedy.

use std::{collections::HashSet, path::Path, sync::Arc};

use jiff::{ToSpan, civil::Date};
use serde_saphyr::{Location, Spanned};

use super::{
    Route, Rulebook, Target,
    condition::Condition,
    pattern::{self, Methods, PathPattern, Selector},
    place,
    raw::{List, Many, RawMatch, RawPolicy, RawRequire, RawRoute, RawSeverities, RawWaiver, Text},
    require::{PROOFS, ProofKind, Require},
    waiver::{LONGEST_DAYS, Waiver},
};
use crate::{
    config::{self, ConfigError, Place, nearest, value},
    judgement::{Severity, WaiverNote},
    policy::rules::RULES,
};

const POLICY: config::Kind = config::Kind {
    flag: "--policy",
    without: "to judge without one",
    reference: "docs/policy.md lists every key",
    nodes: 50_000,
};
/// Most routes, and most waivers.
const ENTRIES: usize = 1000;
/// Longest name, owner or reason, bytes.
const WORDS: usize = 256;
const NAMES: &str = "write letters, digits, `-`, `_` and `.`, such as orders-api";

/// Reads a file.
pub(super) fn load(file: &Path, today: Date) -> Result<Rulebook, ConfigError> {
    parse(file, &config::text(file, POLICY)?, today)
}

/// Reads the text of a file; `file` is only named in messages.
pub(super) fn parse(file: &Path, text: &str, today: Date) -> Result<Rulebook, ConfigError> {
    let raw: RawPolicy = config::document(file, text, POLICY)?;
    let reader = Reader { file, text, today };
    reader.version(&raw.version)?;
    let (routes, waivers) = (raw.routes.unwrap_or_default(), raw.waivers.unwrap_or_default());
    for (what, count) in [("routes", routes.len()), ("waivers", waivers.len())] {
        if count > ENTRIES {
            let reason = format!("there are {count} {what}; at most {ENTRIES} are taken");
            return Err(reader.wrong_at(None, reason, "match more with one pattern"));
        }
    }
    let routes: Vec<Route> = routes.into_iter().map(|route| reader.route(route)).collect::<Result<_, _>>()?;
    reader.distinct("route", routes.iter().map(|route| &*route.name))?;
    let waivers: Vec<Waiver> = waivers.into_iter().map(|waiver| reader.waiver(waiver)).collect::<Result<_, _>>()?;
    reader.distinct("waiver", waivers.iter().map(|waiver| &*waiver.note.name))?;
    let rulebook = Rulebook::new(routes, waivers, blake3::hash(text.as_bytes()).to_hex()[..32].to_owned());
    let limit = crate::credentials::custom::WANTED_LIMIT;
    if rulebook.custom_claims.len() > limit {
        let reason = format!("conditions ask for {} claims of their own", rulebook.custom_claims.len());
        return Err(reader.wrong_at(None, reason, format!("ask for at most {limit} different ones")));
    }
    Ok(rulebook)
}

/// Whether a file has keys at its top that only a policy has.
pub(super) fn is_policy(file: &Path) -> bool {
    let Ok(text) = config::text(file, POLICY) else { return false };
    let keys = ["version", "routes", "waivers"];
    let is_key = |line: &str| {
        let line = line.trim_start_matches(['{', ' ']).trim_matches('"');
        keys.iter()
            .any(|key| line.strip_prefix(key).is_some_and(|rest| rest.trim_start_matches(['"', ' ']).starts_with(':')))
    };
    text.lines().filter(|line| !line.starts_with([' ', '\t', '#', '-'])).any(is_key)
}

struct Reader<'a> {
    file: &'a Path,
    text: &'a str,
    today: Date,
}

impl Reader<'_> {
    fn version(&self, version: &Text) -> Result<(), ConfigError> {
        match version {
            None => Err(self.wrong_at(None, "there is no version", "write `version: 1` at the top")),
            Some(version) if version.value == "1" => Ok(()),
            Some(version) => {
                let reason = format!("version `{}` is not known", value::shown(&version.value));
                Err(self.wrong(version, reason, "write `version: 1`, or take a newer auditor"))
            }
        }
    }

    fn route(&self, route: Spanned<RawRoute>) -> Result<Route, ConfigError> {
        let RawRoute { name, r#match, callers, require, when, severity, severities } = &route.value;
        let name = self.name(&route, name, "route", "orders")?;
        let target = self.target(r#match.as_ref())?;
        let require = self.require(require.as_ref())?;
        let captures: Box<[(usize, Box<str>)]> =
            target.path.iter().flat_map(PathPattern::captures).map(|(at, name)| (at, name.into())).collect();
        let when = when.as_ref().map(|when| self.condition(when, &captures)).transpose()?;
        let callers = self.list("callers", callers, Selector::parse)?;
        let severity = severity.as_ref().map(|text| self.severity("severity", text)).transpose()?;
        let severities = self.severities(severities.as_ref())?;
        Ok(Route { name: name.into(), target, callers, require, when, captures, severity, severities })
    }

    fn condition(&self, when: &Spanned<String>, captures: &[(usize, Box<str>)]) -> Result<Condition, ConfigError> {
        let names: Vec<Box<str>> = captures.iter().map(|(_, name)| name.clone()).collect();
        Condition::compile(&when.value, &names).map_err(|wrong| {
            let at = when.referenced;
            let (line, column) = place::within(self.text, at.line(), at.column(), wrong.offset);
            let place = Place { file: self.file.to_owned(), line, column };
            ConfigError::Content { place, reason: format!("when: {}", wrong.reason), remedy: wrong.remedy }
        })
    }

    fn target(&self, raw: Option<&RawMatch>) -> Result<Target, ConfigError> {
        let Some(RawMatch { source, destination, methods, path }) = raw else { return Ok(Target::default()) };
        let path = path
            .as_ref()
            .map(|path| PathPattern::parse(&path.value).map_err(|problem| self.value(path, "match.path", problem)));
        Ok(Target {
            source: self.many("match.source", source, Selector::parse)?,
            destination: self.many("match.destination", destination, Selector::parse)?,
            methods: Methods::new(self.list("match.methods", methods, pattern::method)?),
            path: path.transpose()?,
        })
    }

    fn require(&self, raw: Option<&RawRequire>) -> Result<Require, ConfigError> {
        let Some(RawRequire { proof, issuers, audiences, scopes, max_lifetime, verified }) = raw else {
            return Ok(Require::default());
        };
        let kind = |text: &str| {
            let known = PROOFS.iter().find(|(name, _)| *name == text).map(|(_, kind)| *kind);
            let names = || PROOFS.map(|(name, _)| name).join(", ");
            known.ok_or_else(|| format!("`{}` is no proof; write one of {}", value::shown(text), names()))
        };
        let max_lifetime = max_lifetime.as_ref().map(|text| {
            value::lifetime(&text.value).map_err(|problem| self.value(text, "require.max_lifetime", problem))
        });
        let require = Require {
            proof: self.many("require.proof", proof, kind)?,
            issuers: self.list("require.issuers", issuers, words)?,
            audiences: self.list("require.audiences", audiences, words)?,
            scopes: self.list("require.scopes", scopes, words)?,
            max_lifetime: max_lifetime.transpose()?,
            verified: verified.as_ref().is_some_and(|verified| verified.value),
        };
        match proof {
            Some(proof) if require.asks_for_token() && !require.proof.contains(&ProofKind::Jwt) => {
                let reason = "require: only a token has issuer, audience, scopes and a signature to verify";
                Err(self.wrong(proof, reason, "add `jwt` to require.proof"))
            }
            _ => Ok(require),
        }
    }

    fn severities(&self, raw: Option<&RawSeverities>) -> Result<Vec<(&'static str, Severity)>, ConfigError> {
        let pairs = raw.map_or(&[][..], |raw| &raw.0);
        let pair = |(id, level): &(Spanned<String>, Spanned<String>)| {
            let rule = rule(&id.value).map_err(|remedy| self.unknown_rule(id, remedy))?;
            Ok((rule, self.severity("severities", level)?))
        };
        pairs.iter().map(pair).collect()
    }

    fn severity(&self, key: &str, text: &Spanned<String>) -> Result<Severity, ConfigError> {
        config::severity(&text.value).map_err(|problem| self.value(text, key, problem))
    }

    fn waiver(&self, raw: Spanned<RawWaiver>) -> Result<Waiver, ConfigError> {
        let RawWaiver { name, r#match, rules, owner, reason, expires } = &raw.value;
        let name = self.name(&raw, name, "waiver", "legacy-cron")?;
        let said = |key: &str, text: &Text, example: &str| match text {
            Some(text) => words(&text.value).map_err(|problem| self.value(text, key, problem)),
            None => {
                let reason = format!("waiver `{name}` has no {key}");
                Err(self.wrong(&raw, reason, format!("write who and why, such as `{key}: {example}`")))
            }
        };
        let (owner, reason) = (said("owner", owner, "team-billing@example.com")?, said("reason", reason, "...")?);
        let rules = rules.as_deref().unwrap_or_default().iter();
        let rules = rules.map(|id| rule(&id.value).map_err(|remedy| self.unknown_rule(id, remedy)));
        let rules = rules.collect::<Result<_, _>>()?;
        if r#match.is_none() {
            let reason = format!("waiver `{name}` matches everything");
            return Err(self.wrong(&raw, reason, "say what it is for: `match: {destination: ..., path: ...}`"));
        }
        let expires = self.expires(&raw, name, expires)?;
        Ok(Waiver {
            note: Arc::new(WaiverNote { name: name.into(), owner, expires }),
            reason,
            target: self.target(r#match.as_ref())?,
            rules,
            used: 0.into(),
        })
    }

    /// The last day of a waiver: at most a year and a day ahead.
    fn expires(&self, waiver: &Spanned<RawWaiver>, name: &str, text: &Text) -> Result<Date, ConfigError> {
        let latest = self.today.saturating_add(LONGEST_DAYS.days());
        let Some(text) = text else {
            let reason = format!("waiver `{name}` has no expiry");
            return Err(self.wrong(
                waiver,
                reason,
                format!("write its last day, at most {latest}: `expires: {latest}`"),
            ));
        };
        let date: Date = text.value.parse().map_err(|_| {
            let problem =
                format!("`{}` is not a day; write year, month and day, such as {latest}", value::shown(&text.value));
            self.value(text, "expires", problem)
        })?;
        if date > latest {
            let problem = format!(
                "{date} is more than {LONGEST_DAYS} days ahead; write at most {latest}, and look at it again then"
            );
            return Err(self.value(text, "expires", problem));
        }
        Ok(date)
    }

    fn name<'t, T>(&self, of: &Spanned<T>, name: &'t Text, what: &str, example: &str) -> Result<&'t str, ConfigError> {
        let Some(name) = name else {
            let reason = format!("the {what} has no name");
            return Err(self.wrong(of, reason, format!("write one, such as `name: {example}`")));
        };
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.value.is_empty() || name.value.len() > 64 || !name.value.bytes().all(fits) {
            let problem = format!("`{}` is not a name; {NAMES}", value::shown(&name.value));
            return Err(self.value(name, "name", problem));
        }
        Ok(&name.value)
    }

    fn distinct<'n>(&self, what: &str, names: impl Iterator<Item = &'n str>) -> Result<(), ConfigError> {
        let mut known = HashSet::new();
        for name in names {
            if !known.insert(name) {
                let line = self.second_line_of(name);
                let place = Place { file: self.file.to_owned(), line, column: 1 };
                let reason = format!("two {what}s are named `{name}`");
                return Err(ConfigError::Content { place, reason, remedy: "give each a name of its own".to_owned() });
            }
        }
        Ok(())
    }

    /// The line that names something a second time; 0 where it cannot be told.
    fn second_line_of(&self, name: &str) -> u64 {
        let names = |line: &&str| {
            line.split(|c: char| " :,{}'\"".contains(c)).any(|word| word == name) && line.contains("name")
        };
        let numbered = (1..).zip(self.text.lines());
        numbered.filter(|(_, line)| names(line)).map(|(number, _)| number).nth(1).unwrap_or_default()
    }

    fn list<T>(
        &self,
        key: &str,
        list: &List,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<T>, ConfigError> {
        let parse = |text: &Spanned<String>| parse(&text.value).map_err(|problem| self.value(text, key, problem));
        list.as_deref().unwrap_or_default().iter().map(parse).collect()
    }

    fn many<T>(
        &self,
        key: &str,
        many: &Many,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<T>, ConfigError> {
        let Some(many) = many else { return Ok(Vec::new()) };
        many.value.0.iter().map(|text| parse(text).map_err(|problem| self.value(many, key, problem))).collect()
    }

    fn unknown_rule(&self, id: &Spanned<String>, remedy: String) -> ConfigError {
        self.wrong(id, format!("unknown rule `{}`", value::shown(&id.value)), remedy)
    }

    fn value<T>(&self, at: &Spanned<T>, key: &str, problem: String) -> ConfigError {
        ConfigError::Value { place: self.place(Some(at.referenced)), key: key.to_owned(), problem }
    }

    fn wrong<T>(&self, at: &Spanned<T>, reason: impl Into<String>, remedy: impl Into<String>) -> ConfigError {
        self.wrong_at(Some(at.referenced), reason, remedy)
    }

    fn wrong_at(&self, at: Option<Location>, reason: impl Into<String>, remedy: impl Into<String>) -> ConfigError {
        ConfigError::Content { place: self.place(at), reason: reason.into(), remedy: remedy.into() }
    }

    fn place(&self, at: Option<Location>) -> Place {
        let (line, column) = at.map_or((0, 0), |at| (at.line(), at.column()));
        Place { file: self.file.to_owned(), line, column }
    }
}

/// The rule of an id; otherwise what was probably meant.
fn rule(id: &str) -> Result<&'static str, String> {
    let known = || RULES.iter().map(|rule| rule.id);
    known().find(|known| *known == id).ok_or_else(|| match nearest(id, known()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => "`auditor rules` lists them".to_owned(),
    })
}

/// Text that is no blank and not too long.
fn words(text: &str) -> Result<Box<str>, String> {
    match text.trim() {
        "" => Err("is blank; write a text".to_owned()),
        text if text.len() > WORDS => Err(format!("is longer than {WORDS} bytes; shorten it")),
        text if text.chars().any(char::is_control) => Err("holds control characters; write it on one line".to_owned()),
        text => Ok(text.into()),
    }
}
