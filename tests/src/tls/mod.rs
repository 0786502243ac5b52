//! The live matrix of mutual TLS: clients of seven TLS stacks, servers of four, each asking for certificates or not, every kind
//! of client certificate, both versions, and resumed sessions.
//!
//! What is true of a connection stands on the plan and on what the two ends say themselves; the auditor has no part in it.

pub mod certificates;
pub mod clients;
pub mod compare;
pub mod expected;
pub mod made;
pub mod oracle;
pub mod plan;
pub mod rig;
pub mod servers;
