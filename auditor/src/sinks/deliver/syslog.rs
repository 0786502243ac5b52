//! Syslog (RFC 5424) over a Unix datagram socket, UDP (RFC 5426) or TCP with octet counting (RFC 6587 section 3.4.1): one message for each
//! event, with its figures as structured data.

use std::{
    fmt::{self, Write as _},
    io::{self, Write as _},
    net::{TcpStream, ToSocketAddrs as _, UdpSocket},
    os::unix::net::UnixDatagram,
    path::PathBuf,
    time::Duration,
};

use super::{Post, Refusal, payload::Words};
use crate::{config::reason_of, evidence::Event, judgement::Severity};

/// Longest message in a datagram, bytes: what RFC 5424 section 6.1 says receivers should take.
const DATAGRAM_BYTES: usize = 2048;
/// Longest message over TCP and to a local socket, bytes.
const STREAM_BYTES: usize = 8192;
/// Longest value of one parameter, bytes.
const VALUE_BYTES: usize = 255;
/// How long connecting and writing may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Id of the structured data. 32473 is the enterprise number that RFC 5612 sets aside; a name with a number cannot be taken for one of
/// the registered ones.
const STRUCTURED: &str = "finding@32473";

/// Where messages go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyslogAddress {
    /// A Unix datagram socket, such as `/dev/log`.
    Unix(PathBuf),
    /// `host:port`.
    Udp(String),
    /// `host:port`.
    Tcp(String),
}

impl SyslogAddress {
    /// Reads `unix:/dev/log`, `udp:host:514` or `tcp:host:601`.
    ///
    /// # Errors
    /// What is wrong with the text and what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let hint = "write unix:/dev/log, udp:host:514 or tcp:host:601";
        let bad = || format!("`{}` is not an address of syslog; {hint}", crate::config::value::shown(text));
        let (kind, rest) = text.trim().split_once(':').ok_or_else(bad)?;
        let with_port = |rest: &str| match rest.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0) => {
                Ok(rest.to_owned())
            }
            _ => Err(bad()),
        };
        match kind {
            "unix" if rest.starts_with('/') => Ok(Self::Unix(rest.into())),
            "udp" => with_port(rest).map(Self::Udp),
            "tcp" => with_port(rest).map(Self::Tcp),
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for SyslogAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Udp(address) => write!(f, "udp:{address}"),
            Self::Tcp(address) => write!(f, "tcp:{address}"),
        }
    }
}

/// A facility (RFC 5424 section 6.2.1), of those that a daemon may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facility(u8);

const FACILITIES: [(&str, u8); 12] = [
    ("user", 1),
    ("daemon", 3),
    ("auth", 4),
    ("authpriv", 10),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];

impl Facility {
    /// System daemons.
    pub const DAEMON: Self = Self(3);

    /// Reads a facility's name.
    ///
    /// # Errors
    /// Which names there are.
    pub fn parse(text: &str) -> Result<Self, String> {
        let found = FACILITIES.iter().find(|(name, _)| *name == text).map(|(_, code)| Self(*code));
        found.ok_or_else(|| {
            let names = FACILITIES.map(|(name, _)| name).join(", ");
            format!("`{}` is none of {names}", crate::config::value::shown(text))
        })
    }
}

impl fmt::Display for Facility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(FACILITIES.iter().find(|(_, code)| *code == self.0).map_or("daemon", |(name, _)| name))
    }
}

/// Sends one message for each event.
#[derive(Debug)]
pub struct Syslog {
    address: SyslogAddress,
    facility: Facility,
    host: String,
    connection: Option<Connection>,
}

#[derive(Debug)]
enum Connection {
    Unix(UnixDatagram),
    Udp(UdpSocket),
    Tcp(TcpStream),
}

impl Syslog {
    /// Sends to `address` as the host `host`. Connects with the first message.
    #[must_use]
    pub fn new(address: SyslogAddress, facility: Facility, host: String) -> Self {
        let printable = |character: char| if character.is_ascii_graphic() { character } else { '-' };
        let host = host.chars().take(VALUE_BYTES).map(printable).collect();
        Self { address, facility, host, connection: None }
    }

    fn connect(&self) -> io::Result<Connection> {
        match &self.address {
            SyslogAddress::Unix(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(path)?;
                socket.set_write_timeout(Some(TIMEOUT))?;
                Ok(Connection::Unix(socket))
            }
            SyslogAddress::Udp(address) => {
                let address = resolved(address)?;
                let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                let socket = UdpSocket::bind(any)?;
                socket.connect(address)?;
                socket.set_write_timeout(Some(TIMEOUT))?;
                Ok(Connection::Udp(socket))
            }
            SyslogAddress::Tcp(address) => {
                let stream = TcpStream::connect_timeout(&resolved(address)?, TIMEOUT)?;
                stream.set_write_timeout(Some(TIMEOUT))?;
                Ok(Connection::Tcp(stream))
            }
        }
    }

    fn send(&mut self, event: &Event) -> io::Result<()> {
        let limit = if matches!(self.address, SyslogAddress::Udp(_)) { DATAGRAM_BYTES } else { STREAM_BYTES };
        let message = message(event, self.facility, &self.host, limit);
        if self.connection.is_none() {
            self.connection = Some(self.connect()?);
        }
        match &mut self.connection {
            Some(Connection::Unix(socket)) => socket.send(message.as_bytes()).map(drop),
            Some(Connection::Udp(socket)) => socket.send(message.as_bytes()).map(drop),
            Some(Connection::Tcp(stream)) => stream.write_all(format!("{} {message}", message.len()).as_bytes()),
            None => Ok(()),
        }
    }
}

impl Post for Syslog {
    /// Batches are of one, so that nothing is sent twice. Over TCP what was written last before the other end went may be lost: plain
    /// syslog has no acknowledgements.
    fn post(&mut self, events: &[Event], _batch: u64) -> Result<(), Refusal> {
        for event in events {
            if let Err(error) = self.send(event) {
                self.connection = None;
                return Err(Refusal::later(format!("syslog at {} ({})", self.address, reason_of(&error))));
            }
        }
        Ok(())
    }
}

fn resolved(address: &str) -> io::Result<std::net::SocketAddr> {
    address.to_socket_addrs()?.next().ok_or_else(|| io::Error::other("the name has no address"))
}

/// RFC 5424 section 6.2.1.
pub(super) fn level(severity: Severity) -> u8 {
    match severity {
        Severity::Critical => 2,
        Severity::High => 3,
        Severity::Medium => 4,
        Severity::Low => 5,
        Severity::Info => 6,
    }
}

/// A message of at most `limit` bytes. What does not fit is cut from its text, never from the structured data.
fn message(event: &Event, facility: Facility, host: &str, limit: usize) -> String {
    let words = Words::of(&event.group);
    let seen = &event.group.seen;
    let priority = facility.0 * 8 + level(words.severity);
    let pid = std::process::id();
    let mut text = format!("<{priority}>1 {:.6} {host} auditor {pid} finding [{STRUCTURED}", seen.last);
    let figures = [("count", seen.count.to_string()), ("first", format!("{:.0}", seen.first))];
    let occasion = serde_json::to_value(event.occasion).ok();
    let parameters = [
        ("rule", words.rule),
        ("severity", words.severity.as_str()),
        ("event", occasion.as_ref().and_then(|word| word.as_str()).unwrap_or_default()),
        ("source", &words.source.name()),
        ("destination", &words.destination.name()),
        ("method", &words.method),
        ("route", &words.route),
        ("protocol", &words.protocol),
    ];
    let figures = figures.iter().map(|(name, value)| (*name, value.as_str()));
    for (name, value) in parameters.into_iter().chain(figures).filter(|(_, value)| !value.is_empty()) {
        let _ = write!(text, " {name}=\"{}\"", escaped(&value[..value.floor_char_boundary(VALUE_BYTES)]));
    }
    text.push(']');
    // The byte order mark says that the text is UTF-8 (section 6.4).
    let _ = write!(text, " \u{feff}{}; {}", words.summary(), words.example);
    text.truncate(text.floor_char_boundary(limit));
    text
}

/// A parameter's value (RFC 5424 section 6.3.3); it holds no control characters.
fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for character in value.chars() {
        if matches!(character, '"' | '\\' | ']') {
            out.push('\\');
        }
        out.push(character);
    }
    out
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read as _,
        net::{TcpListener, UdpSocket},
    };

    use super::{
        super::tests::{event, events, hostile},
        *,
    };
    use crate::sinks::golden::assert_golden;

    const HOST: &str = "node-1";

    fn without_pid(message: &str) -> String {
        message.replace(&format!(" auditor {} ", std::process::id()), " auditor PID ")
    }

    #[test]
    fn messages_are_those_of_the_documentation() {
        let text = message(&event(), Facility::DAEMON, HOST, STREAM_BYTES);
        assert_golden("finding.syslog", &format!("{}\n", without_pid(&text)));
    }

    #[test]
    fn hostile_text_stays_inside_and_messages_inside_their_bound() {
        let text = message(&hostile(), Facility::DAEMON, HOST, DATAGRAM_BYTES);
        assert!(text.len() <= DATAGRAM_BYTES && !text.contains('\n') && !text.contains('\u{1b}'), "{text:?}");
        assert!(text.contains("finding@32473") && text.contains("\\]"), "{text}");
        assert_eq!(escaped(r#"a"b\c]d"#), r#"a\"b\\c\]d"#);
    }

    #[test]
    fn levels_follow_severities() {
        let mut event = event();
        let starts = [(Severity::Critical, "<26>"), (Severity::High, "<27>"), (Severity::Info, "<30>")];
        for (severity, start) in starts {
            event.group.seen.severity = severity;
            assert!(message(&event, Facility::DAEMON, HOST, STREAM_BYTES).starts_with(start), "{severity}");
        }
    }

    #[test]
    fn addresses_and_facilities_are_checked() {
        for text in ["unix:/dev/log", "udp:syslog.internal:514", "tcp:[::1]:601"] {
            assert_eq!(SyslogAddress::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "unix:dev/log", "udp:host", "tcp::1", "udp:host:0", "tls:host:1", "/dev/log"] {
            assert!(SyslogAddress::parse(text).unwrap_err().ends_with("tcp:host:601"), "{text:?}");
        }
        assert_eq!(Facility::parse("local7").unwrap().to_string(), "local7");
        assert!(Facility::parse("kern").unwrap_err().starts_with("`kern` is none of user, daemon"));
    }

    #[test]
    fn datagrams_arrive_over_udp_and_unix_sockets() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = SyslogAddress::Udp(receiver.local_addr().unwrap().to_string());
        Syslog::new(address, Facility::DAEMON, HOST.into()).post(&events(2), 0).unwrap();
        let mut buffer = [0; 4096];
        for _ in 0..2 {
            let length = receiver.recv(&mut buffer).unwrap();
            assert!(buffer[..length].starts_with(b"<27>1 2026-"), "{:?}", String::from_utf8_lossy(&buffer[..length]));
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let receiver = UnixDatagram::bind(&path).unwrap();
        Syslog::new(SyslogAddress::Unix(path), Facility::DAEMON, HOST.into()).post(&events(1), 0).unwrap();
        assert!(receiver.recv(&mut buffer).unwrap() > 100);
    }

    #[test]
    fn tcp_counts_octets_and_connects_again() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = SyslogAddress::Tcp(listener.local_addr().unwrap().to_string());
        let mut syslog = Syslog::new(address, Facility::DAEMON, HOST.into());
        syslog.post(&[event()], 0).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        let expected = message(&event(), Facility::DAEMON, HOST, STREAM_BYTES);
        let expected = format!("{} {expected}", expected.len());
        let mut received = vec![0; expected.len()];
        stream.read_exact(&mut received).unwrap();
        assert_eq!(String::from_utf8(received).unwrap(), expected);
        // With the listener gone too, what comes after the reset is told.
        drop((stream, listener));
        let refused = (0..1000).find_map(|_| syslog.post(&[event()], 1).err()).expect("told in the end");
        assert!(refused.retry && refused.reason.starts_with("syslog at tcp:127.0.0.1:"), "{refused:?}");
        assert!(syslog.post(&[event()], 1).is_err());
    }

    #[test]
    fn a_socket_that_is_not_there_is_told() {
        let mut syslog = Syslog::new(SyslogAddress::Unix("/nowhere/log".into()), Facility::DAEMON, HOST.into());
        let refusal = syslog.post(&[event()], 0).unwrap_err();
        assert_eq!(refusal.reason, "syslog at unix:/nowhere/log (no such file or directory)");
    }
}
