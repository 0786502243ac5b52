//! Which connection of a run a record is of.

use std::collections::HashMap;

use anyhow::{Context as _, Result};
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    auditor::port,
    tls::{clients::Seen, plan::Planned, rig::Rig},
};

/// The ports of a connection, the client's first.
pub type Ports = (u16, u16);

/// The connections that were made: by their ports, and when they began. A port may be used again once its connection was reset.
#[derive(Debug)]
pub struct Made<'a>(HashMap<Ports, Vec<(OffsetDateTime, &'a str)>>);

impl<'a> Made<'a> {
    /// Those of a run.
    ///
    /// # Errors
    /// When one was not made.
    pub fn new(rig: &Rig, planned: &'a [Planned], seen: &HashMap<String, Seen>) -> Result<Self> {
        let mut made: HashMap<_, Vec<_>> = HashMap::new();
        for planned in planned {
            let seen = seen.get(&planned.id).with_context(|| format!("{planned} was not made"))?;
            let ports = (seen.port, rig.server_port(planned)?);
            made.entry(ports).or_default().push((seen.began.into(), planned.id.as_str()));
        }
        Ok(Self(made))
    }

    /// The id of the connection that a record is of: of several with the same ports, the one that began last before.
    #[must_use]
    pub fn of(&self, record: &Value) -> Option<&'a str> {
        let time = OffsetDateTime::parse(record["time"].as_str()?, &Rfc3339).ok()?;
        let before = self.0.get(&ports(record)?)?.iter().filter(|(began, _)| *began <= time);
        before.max().map(|(_, id)| *id)
    }
}

/// The ports of a record's connection.
#[must_use]
pub fn ports(record: &Value) -> Option<Ports> {
    port(record, "source").zip(port(record, "destination"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn of_two_with_the_same_ports_it_is_the_one_that_began_before() {
        let at = |text| OffsetDateTime::parse(text, &Rfc3339).unwrap();
        let made = Made(HashMap::from([(
            (40_000, 443),
            vec![(at("2026-11-01T00:00:02Z"), "later"), (at("2026-11-01T00:00:00Z"), "earlier")],
        )]));
        let record = |time, own| json!({"time": time, "source": {"port": own}, "destination": {"port": 443}});
        assert_eq!(made.of(&record("2026-11-01T00:00:01.5Z", 40_000)), Some("earlier"));
        assert_eq!(made.of(&record("2026-11-01T00:00:02Z", 40_000)), Some("later"));
        assert_eq!(made.of(&record("2026-10-31T23:59:59Z", 40_000)), None);
        assert_eq!(made.of(&record("2026-11-01T00:00:03Z", 40_001)), None);
    }
}
