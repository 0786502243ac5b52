//! The auditor: captures the sockets' traffic of a node, says of every internal call who made it and with what proof, and
//! whether that is acceptable. `pipeline` joins the stages; every other module is one stage or one edge of the system.

pub mod attribution;
mod cache;
pub mod capture;
pub mod certificates;
pub mod cli;
pub mod commands;
pub mod config;
pub mod credentials;
pub mod evidence;
mod hash;
pub mod judgement;
pub mod kernel;
mod memory;
pub mod pipeline;
pub mod plaintext;
pub mod policy;
pub mod server;
pub mod sinks;
pub mod state;
