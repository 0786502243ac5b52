//! The policy file as it is written: every value still text, each with its place. Checking it is `read`'s work.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::Spanned;

/// A value with its place.
pub(super) type Text = Option<Spanned<String>>;
/// A list of values with their places.
pub(super) type List = Option<Vec<Spanned<String>>>;
/// One value or a list, with the place where it begins.
pub(super) type Many = Option<Spanned<OneOrMore>>;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawPolicy {
    pub(super) version: Text,
    pub(super) routes: Option<Vec<Spanned<RawRoute>>>,
    pub(super) waivers: Option<Vec<Spanned<RawWaiver>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawRoute {
    pub(super) name: Text,
    pub(super) r#match: Option<RawMatch>,
    pub(super) callers: List,
    pub(super) require: Option<RawRequire>,
    pub(super) when: Text,
    pub(super) severity: Text,
    pub(super) severities: Option<RawSeverities>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawMatch {
    pub(super) source: Many,
    pub(super) destination: Many,
    pub(super) methods: List,
    pub(super) path: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawRequire {
    pub(super) proof: Many,
    pub(super) issuers: List,
    pub(super) audiences: List,
    pub(super) scopes: List,
    pub(super) max_lifetime: Text,
    pub(super) verified: Option<Spanned<bool>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawWaiver {
    pub(super) name: Text,
    pub(super) r#match: Option<RawMatch>,
    pub(super) rules: List,
    pub(super) owner: Text,
    pub(super) reason: Text,
    pub(super) expires: Text,
}

/// One text, or a list of texts.
#[derive(Debug)]
pub(super) struct OneOrMore(pub(super) Vec<String>);

impl<'de> Deserialize<'de> for OneOrMore {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts;

        impl<'de> Visitor<'de> for Texts {
            type Value = OneOrMore;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of texts")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<OneOrMore, E> {
                Ok(OneOrMore(vec![text.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<OneOrMore, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = sequence.next_element()? {
                    texts.push(text);
                }
                Ok(OneOrMore(texts))
            }
        }

        deserializer.deserialize_any(Texts)
    }
}

/// Severities by rule, in the order they stand; a map would lose where each rule stands.
#[derive(Debug, Default)]
pub(super) struct RawSeverities(pub(super) Vec<(Spanned<String>, Spanned<String>)>);

impl<'de> Deserialize<'de> for RawSeverities {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;

        impl<'de> Visitor<'de> for Pairs {
            type Value = RawSeverities;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping from rule ids to severities")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawSeverities, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(RawSeverities(pairs))
            }
        }

        deserializer.deserialize_map(Pairs)
    }
}
