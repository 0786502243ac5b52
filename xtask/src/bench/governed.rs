//! What is left of the cost when the governor may pass over calls that repeat (docs/sampling.md).

use anyhow::Result;

use super::{
    Bench, Watched, each, micros,
    rig::{Observer, flat_out_proven},
    table::Row,
};
use crate::process::say;

/// The share of a core that is asked for.
const SHARE: &str = "0.02";
/// Its deepest step: one of 64 calls that repeat is judged.
const DEEPEST: f64 = 6.0;
/// Seconds of load in which it gets there: a step a second.
const WARMING: u32 = 15;

impl Bench {
    /// Calls flat out that prove who makes them and repeat, beside an auditor that is to stay below a share of a core.
    ///
    /// # Errors
    /// When a part of the rig fails.
    pub(super) fn governed_rows(&self) -> Result<Vec<Row>> {
        let load = || flat_out_proven(self.server.port, self.options.seconds);
        let pairs = self.pairs_with("governed", &load, &|| self.governed())?;
        let of = |value: fn(&Watched) -> f64| pairs.iter().map(|(_, with)| value(with)).sum::<f64>();
        let told = of(|with| with.counted.exchanges + with.counted.passed_over) / of(|with| with.load.requests);
        let name = format!("calls that repeat, governor at {SHARE} of a core");
        Ok(vec![
            Row::spread(
                &format!("throughput flat out, {name}, with / without"),
                "ratio",
                3,
                &each(&pairs, |(without, with)| with.load.rate / without.0.rate),
            )
            .at_least(0.95),
            Row::spread(
                &format!("auditor CPU per exchange, {name}"),
                "us",
                2,
                &each(&pairs, |(_, with)| micros(with.counted.cpu_seconds, with.load.requests)),
            )
            .at_most(2.0),
            Row::value(&format!("exchanges judged or counted / requests made, {name}"), "ratio", 4, told),
            Row::value(&format!("records lost, {name}"), "records", 0, of(|with| with.counted.lost)).at_most(0.0),
        ])
    }

    /// An auditor whose governor has come to its deepest step.
    fn governed(&self) -> Result<Observer> {
        let observer = Observer::start_with(&self.auditor, &self.folder, &["--cpu-share", SHARE])?;
        for _ in 0..WARMING {
            flat_out_proven(self.server.port, 1)?;
            if observer.figure("auditor_sampling_step")? >= DEEPEST {
                return Ok(observer);
            }
        }
        say("the governor did not come to its deepest step");
        Ok(observer)
    }
}
