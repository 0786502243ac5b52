//! One end of a call.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, ser::SerializeStruct};

use super::{Container, Process};

/// One end of a call.
///
/// Serialised, an end of an `AF_UNIX` socket has neither address nor port: both are `null`, and `unix_path` stands in the record of
/// the end that bound one.
#[derive(Clone, Debug)]
pub struct Party {
    /// Address as the reporter's socket has it.
    pub address: Address,
    /// Port; 0 where there is none.
    pub port: u16,
    /// Address of the `AF_UNIX` socket that was called, as the server bound it; one in the abstract name space begins with `@`.
    pub unix_path: Option<Arc<str>>,
    /// Inside the configured internal networks, or the node's own address; an `AF_UNIX` socket always is.
    pub internal: bool,
    /// The process, when on this node and known.
    pub process: Option<Arc<Process>>,
    /// The container, when on this node and in one.
    pub container: Option<Arc<Container>>,
    /// Name to aggregate by: the executable's name outside Kubernetes; `None` when nothing is known.
    pub workload: Option<Arc<str>>,
}

/// Address of one end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// Of IP.
    Ip(IpAddr),
    /// It is an end of an `AF_UNIX` socket: there is none.
    Unix,
}

impl Address {
    /// The IP address, where there is one.
    #[must_use]
    pub fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Ip(address) => Some(address),
            Self::Unix => None,
        }
    }

    /// With its port: `10.0.0.1:80`, `[::1]:80`, `unix`.
    #[must_use]
    pub fn with_port(self, port: u16) -> String {
        match self {
            Self::Ip(address) => SocketAddr::new(address, port).to_string(),
            Self::Unix => self.to_string(),
        }
    }
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        Self::Ip(address)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix => f.pad("unix"),
        }
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.ip().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::deserialize(deserializer).map(|address| address.map_or(Self::Unix, Self::Ip))
    }
}

impl Party {
    /// Where it is: `10.0.0.1:80`, `unix:/run/docker.sock`, `unix`.
    #[must_use]
    pub fn place(&self) -> String {
        match &self.unix_path {
            Some(path) => format!("unix:{path}"),
            None => self.address.with_port(self.port),
        }
    }
}

impl Serialize for Party {
    /// Written out by hand: what there is of an address depends on the kind of socket.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut record = serializer.serialize_struct("Party", 6 + usize::from(self.unix_path.is_some()))?;
        record.serialize_field("address", &self.address)?;
        record.serialize_field("port", &self.address.ip().map(|_| self.port))?;
        if let Some(path) = &self.unix_path {
            record.serialize_field("unix_path", path)?;
        }
        record.serialize_field("internal", &self.internal)?;
        record.serialize_field("process", &self.process)?;
        record.serialize_field("container", &self.container)?;
        record.serialize_field("workload", &self.workload)?;
        record.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_of_a_unix_socket_has_no_address() {
        let mut party = crate::sinks::sample::party("10.0.0.1", 80, Some("dockerd"));
        let record = |party: &Party| serde_json::to_value(party).unwrap();
        assert_eq!((record(&party)["address"].as_str(), record(&party)["port"].as_u64()), (Some("10.0.0.1"), Some(80)));
        assert_eq!((record(&party).get("unix_path"), party.place().as_str()), (None, "10.0.0.1:80"));
        (party.address, party.port) = (Address::Unix, 0);
        assert!(record(&party)["address"].is_null() && record(&party)["port"].is_null());
        assert_eq!((record(&party).get("unix_path"), party.place().as_str()), (None, "unix"));
        party.unix_path = Some("/run/docker.sock".into());
        assert_eq!(
            (record(&party)["unix_path"].as_str(), party.place().as_str()),
            (Some("/run/docker.sock"), "unix:/run/docker.sock")
        );
        for address in [Address::Unix, Address::Ip([10, 0, 0, 1].into())] {
            let text = serde_json::to_string(&address).unwrap();
            assert_eq!(serde_json::from_str::<Address>(&text).unwrap(), address);
        }
    }
}
