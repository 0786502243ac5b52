//! Claims that expressions of a policy ask for and records do not show, such as a tenant. They are private: kept only while
//! the call is judged, not shown by `Debug`, wiped when they are dropped. Those that `record.claims` names are written to
//! recordings as [`RecordedClaims`], and nowhere else.

use std::{borrow::Cow, collections::BTreeMap, fmt, sync::Arc};

use serde::{
    Serialize, Serializer,
    de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use zeroize::Zeroizing;

use super::{jwt, shape::is_token};

/// Longest text that is kept, bytes.
const TEXT_LIMIT: usize = 256;
/// Entries of a list that are kept.
const LIST_LIMIT: usize = 16;
/// Longest text that a recording keeps, bytes.
const RECORDED_BYTES: usize = 128;
/// Most claims that a policy asks for, and most that a recording keeps.
pub const WANTED_LIMIT: usize = 32;

/// Values of the claims that were asked for.
#[derive(Clone, Default, PartialEq)]
pub struct CustomClaims {
    values: Vec<(Arc<str>, CustomValue)>,
}

/// The value of a claim.
#[derive(Clone, PartialEq, Eq)]
pub enum CustomValue {
    /// Text.
    Text(Zeroizing<String>),
    /// A whole number.
    Number(i64),
    /// A truth value.
    Flag(bool),
    /// A list of texts.
    List(Vec<Zeroizing<String>>),
    /// It is there, and too long or of a kind that is not kept.
    Unread,
    /// The call comes from a recording that does not hold it.
    Unrecorded,
}

/// What a recording holds of one token's claims: those that `record.claims` names, in clear, `None` where the token has none. A
/// claim that is not here was not asked for, or is not kept: it is long, of another kind, or looks like a secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RecordedClaims(Vec<(Arc<str>, Option<CustomValue>)>);

impl CustomClaims {
    /// The claims `wanted` of a JWT; `None` where its payload cannot be read.
    pub(super) fn read(token: &[u8], wanted: &[Arc<str>]) -> Option<Self> {
        let payload = token.split(|byte| *byte == b'.').nth(1)?;
        let decoded = jwt::decode(payload, jwt::PAYLOAD_LIMIT)?;
        let mut claims = Self::default();
        let mut json = serde_json::Deserializer::from_slice(&decoded);
        json.deserialize_map(Members { wanted, claims: &mut claims }).ok()?;
        json.end().ok()?;
        Some(claims)
    }

    /// What a recording keeps of the claims `names`.
    pub(super) fn recorded(&self, names: &[Arc<str>]) -> RecordedClaims {
        let kept = names.iter().filter(|name| self.get(name).is_none_or(CustomValue::is_kept));
        RecordedClaims(kept.map(|name| (Arc::clone(name), self.get(name).cloned())).collect())
    }

    /// The claims `wanted` as a recording has them.
    pub(super) fn replayed(wanted: &[Arc<str>], recorded: Option<&RecordedClaims>) -> Self {
        let value = |name: &Arc<str>| {
            let found = recorded.and_then(|claims| claims.0.iter().find(|(known, _)| known == name));
            let value = found.map_or(Some(CustomValue::Unrecorded), |(_, value)| value.clone())?;
            Some((Arc::clone(name), value))
        };
        Self { values: wanted.iter().filter_map(value).collect() }
    }

    /// The value of a claim; `None` where the token has none.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&CustomValue> {
        self.values.iter().find(|(known, _)| **known == *name).map(|(_, value)| value)
    }
}

impl fmt::Debug for CustomClaims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.values.iter().map(|(name, _)| name)).finish()
    }
}

impl CustomValue {
    /// Whether a recording keeps it, once it is asked to: what looks like a token is a secret whatever its name.
    fn is_kept(&self) -> bool {
        let text = |text: &Zeroizing<String>| {
            text.len() <= RECORDED_BYTES && !is_token(text.as_bytes()) && jwt::find(text.as_bytes()).next().is_none()
        };
        match self {
            Self::Text(value) => text(value),
            Self::Number(_) | Self::Flag(_) => true,
            Self::List(list) => list.iter().all(text),
            Self::Unread | Self::Unrecorded => false,
        }
    }
}

impl Serialize for RecordedClaims {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value.as_ref().map(InClear))))
    }
}

/// A value as a recording has it.
struct InClear<'a>(&'a CustomValue);

impl Serialize for InClear<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            CustomValue::Text(text) => serializer.serialize_str(text),
            CustomValue::Number(number) => serializer.serialize_i64(*number),
            CustomValue::Flag(flag) => serializer.serialize_bool(*flag),
            CustomValue::List(list) => serializer.collect_seq(list.iter().map(|item| item.as_str())),
            CustomValue::Unread | CustomValue::Unrecorded => serializer.serialize_none(),
        }
    }
}

impl<'de> Deserialize<'de> for RecordedClaims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let claims = BTreeMap::<Arc<str>, Option<CustomValue>>::deserialize(deserializer)?;
        Ok(Self(claims.into_iter().collect()))
    }
}

impl fmt::Debug for RecordedClaims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl fmt::Debug for CustomValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<private>")
    }
}

struct Members<'a> {
    wanted: &'a [Arc<str>],
    claims: &'a mut CustomClaims,
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            let Some(wanted) = self.wanted.iter().find(|wanted| ***wanted == *name) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let value = map.next_value::<Option<CustomValue>>()?;
            // The last of equal names counts, as it does for the claims that are shown.
            self.claims.values.retain(|(known, _)| known != wanted);
            self.claims.values.extend(value.map(|value| (Arc::clone(wanted), value)));
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for CustomValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = CustomValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<CustomValue, E> {
        Ok(CustomValue::Flag(flag))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<CustomValue, E> {
        Ok(CustomValue::Number(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<CustomValue, E> {
        Ok(i64::try_from(number).map_or(CustomValue::Unread, CustomValue::Number))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<CustomValue, E> {
        Ok(CustomValue::Unread)
    }

    fn visit_unit<E: Error>(self) -> Result<CustomValue, E> {
        Ok(CustomValue::Unread)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<CustomValue, E> {
        let fits = text.len() <= TEXT_LIMIT;
        Ok(if fits { CustomValue::Text(Zeroizing::new(text.to_owned())) } else { CustomValue::Unread })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<CustomValue, A::Error> {
        let mut list = Vec::new();
        let mut whole = true;
        while let Some(item) = sequence.next_element::<CustomValue>()? {
            match item {
                CustomValue::Text(text) if list.len() < LIST_LIMIT => list.push(text),
                _ => whole = false,
            }
        }
        Ok(if whole { CustomValue::List(list) } else { CustomValue::Unread })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<CustomValue, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(CustomValue::Unread)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(payload: &str, wanted: &[&str]) -> Option<CustomClaims> {
        let token = jwt::tests::token(r#"{"alg":"RS256"}"#, payload, "c2ln");
        let wanted: Vec<Arc<str>> = wanted.iter().copied().map(Arc::from).collect();
        CustomClaims::read(token.as_bytes(), &wanted)
    }

    #[test]
    fn only_what_is_asked_for_is_kept() {
        let payload =
            r#"{"tenant":"acme","level":3,"vip":true,"groups":["a","b"],"secret":"x","nothing":null,"o":{"a":1}}"#;
        let claims = read(payload, &["tenant", "level", "vip", "groups", "nothing", "o", "missing"]).expect("readable");
        assert_eq!(claims.get("tenant"), Some(&CustomValue::Text(Zeroizing::new("acme".to_owned()))));
        assert_eq!(claims.get("level"), Some(&CustomValue::Number(3)));
        assert_eq!(claims.get("vip"), Some(&CustomValue::Flag(true)));
        assert!(matches!(claims.get("groups"), Some(CustomValue::List(list)) if list.len() == 2));
        assert_eq!(claims.get("o"), Some(&CustomValue::Unread));
        assert_eq!([claims.get("secret"), claims.get("nothing"), claims.get("missing")], [None; 3]);
        assert!(!format!("{claims:?} {:?}", claims.get("tenant")).contains("acme"));
    }

    #[test]
    fn what_is_long_is_not_kept() {
        let long = "x".repeat(TEXT_LIMIT + 1);
        let many = (0..17).map(|n| format!("\"{n}\"")).collect::<Vec<_>>().join(",");
        let claims =
            read(&format!(r#"{{"a":"{long}","b":[{many}],"c":[["x"]]}}"#), &["a", "b", "c"]).expect("readable");
        assert_eq!(["a", "b", "c"].map(|name| claims.get(name)), [Some(&CustomValue::Unread); 3]);
        assert_eq!(read("no json", &["a"]), None);
    }
}
