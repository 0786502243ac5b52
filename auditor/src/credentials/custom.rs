//! Claims that expressions of a policy ask for and records do not show, such as a tenant. They are private: kept only while
//! the call is judged, never serialised, not shown by `Debug`, wiped when they are dropped.

use std::{borrow::Cow, fmt, sync::Arc};

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use zeroize::Zeroizing;

use super::jwt;

/// Longest text that is kept, bytes.
const TEXT_LIMIT: usize = 256;
/// Entries of a list that are kept.
const LIST_LIMIT: usize = 16;
/// Most claims that are asked for.
pub const WANTED_LIMIT: usize = 32;

/// Values of the claims that were asked for.
#[derive(Clone, Default, PartialEq)]
pub struct CustomClaims {
    values: Vec<(Arc<str>, CustomValue)>,
}

/// The value of a claim.
#[derive(Clone, PartialEq)]
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
}

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
