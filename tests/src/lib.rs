//! End-to-end tests on real clients and servers.
//!
//! The oracle knows every call it makes: [`plan`] lays them out with what must be said of each, [`clients`] and [`servers`]
//! carry them out as separate real processes, [`auditor`] runs the product beside them, and [`compare`] holds what it said
//! against what was done. [`tls`] does the same for connections in which nothing can be read,
//! [`grpc`] for calls of gRPC.

pub mod auditor;
pub mod clients;
pub mod compare;
pub mod credential;
pub mod dnat;
pub mod grpc;
pub mod http1;
pub mod http2;
pub mod issuer;
pub mod kernel;
pub mod loopback;
pub mod namespace;
pub mod node;
pub mod oneshot;
pub mod oracle;
pub mod plan;
pub mod process;
pub mod random;
pub mod rig;
pub mod servers;
pub mod tls;
pub mod tools;
pub mod tshark;
