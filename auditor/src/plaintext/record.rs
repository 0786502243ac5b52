//! Decodes records of plaintext ([`auditor_abi::plaintext`]). Nothing is believed that is not checked.

use auditor_abi::{
    plaintext::{
        CLEAR, LATE, LINK_COOKIE, LINK_KERNEL, LINK_RANDOM, PRESENTED_NONE, PRESENTED_UNKNOWN, PRESENTED_YES,
        PlaintextHeader, ROLE_CLIENT, ROLE_SERVER, ROLE_UNKNOWN, WHAT_DATA, WHAT_END, WHAT_HANDSHAKE, WHAT_REFUSED,
        WHAT_VERIFIED,
    },
    record::{EGRESS, INGRESS, MARK_GAP, MARK_MUTED},
};
use auditor_wire::segment::{Class, Direction, Owner, SocketId};
use zerocopy::FromBytes as _;

use crate::capture::record::{RecordError, class, direction};

/// What ties a session to its socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Link {
    /// The random of its ClientHello.
    Random([u8; 32]),
    /// The socket itself.
    Socket(SocketId),
    /// The socket itself, of which the kernel has the keys.
    Kernel(SocketId, Keys),
    /// It is on no socket that the program knew.
    Nothing,
}

/// Of which directions the kernel has the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Keys {
    /// Of what is sent.
    pub egress: Keyed,
    /// Of what comes.
    pub ingress: Keyed,
}

impl Keys {
    /// Since when it has those of `direction`.
    #[must_use]
    pub fn of(self, direction: Direction) -> Keyed {
        match direction {
            Direction::Egress => self.egress,
            Direction::Ingress => self.ingress,
        }
    }
}

/// Since when the kernel has the keys of a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Keyed {
    /// It has none: what system calls move is not the plaintext.
    Never,
    /// Since the first record.
    FromBeginning,
    /// Records went before, which the process read or wrote itself.
    Late,
}

/// Which end of the TLS connection a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// It sent the ClientHello.
    Client,
    /// It answered it.
    Server,
}

/// One record.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub time_ns: u64,
    /// What ties the session to its socket.
    pub link: Link,
    /// The session's address in its process.
    pub object: u64,
    /// When it was first seen, `CLOCK_MONOTONIC`, nanoseconds.
    pub born_ns: u64,
    /// The process.
    pub owner: Owner,
    /// Number of the library; no library's where the kernel does the TLS.
    pub library: u32,
    /// Which end it is, where the library's layout tells.
    pub role: Option<Role>,
    /// What happened.
    pub event: Event<'a>,
}

/// What a record tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// Bytes went through the session.
    Data(Data<'a>),
    /// It is gone; bytes that it wrote and read in all, modulo 2^32.
    End(u32, u32),
    /// A handshake function returned this.
    Handshake(i32),
    /// The client's certificates were looked at.
    Verified(Peer),
    /// The same, and the handshake ends with it.
    Refused(Peer),
}

/// What a library knows of its peer's certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Whether there is one; `None` where it does not tell.
    pub presented: Option<bool>,
    /// Result of verifying it: 0 when nothing is against it. `None` where it was not verified, or that does not show.
    pub result: Option<u32>,
}

/// Bytes that went through a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Data<'a> {
    /// Which way.
    pub direction: Direction,
    /// Bytes that went the same way before, modulo 2^32.
    pub offset: u32,
    /// How many there were.
    pub length: u32,
    /// The first of them.
    pub payload: &'a [u8],
    /// What they look like.
    pub class: Class,
    /// Records of this direction were lost before.
    pub gap: bool,
    /// Nothing more will come.
    pub muted: bool,
    /// What the session keeps of its peer's certificate; of a server's session alone.
    pub peer: Peer,
}

/// Decodes one record.
///
/// # Errors
/// When the bytes are no record.
pub fn decode(bytes: &[u8]) -> Result<Record<'_>, RecordError> {
    let (header, rest) = PlaintextHeader::read_from_prefix(bytes).map_err(|_| RecordError::Short)?;
    let captured = usize::try_from(header.captured).map_err(|_| RecordError::Short)?;
    let payload = rest.get(..captured).ok_or(RecordError::Short)?;
    let link = match header.link_kind {
        LINK_RANDOM => Link::Random(header.link),
        LINK_COOKIE => match word(&header.link, 0) {
            0 => Link::Nothing,
            cookie => Link::Socket(SocketId(cookie)),
        },
        LINK_KERNEL => {
            let [cookie, keys] = [word(&header.link, 0), word(&header.link, 1)];
            Link::Kernel(SocketId(cookie), Keys { egress: keyed(keys, EGRESS), ingress: keyed(keys, INGRESS) })
        }
        _ => return Err(RecordError::Value("link")),
    };
    let role = match header.role {
        ROLE_UNKNOWN => None,
        ROLE_CLIENT => Some(Role::Client),
        ROLE_SERVER => Some(Role::Server),
        _ => return Err(RecordError::Value("role")),
    };
    let event = match header.what {
        WHAT_DATA => Event::Data(data(&header, payload)?),
        WHAT_END => Event::End(header.offset, header.length),
        WHAT_HANDSHAKE => Event::Handshake(header.result.cast_signed()),
        WHAT_VERIFIED => Event::Verified(peer(&header)?),
        WHAT_REFUSED => Event::Refused(peer(&header)?),
        _ => return Err(RecordError::Value("event")),
    };
    Ok(Record {
        time_ns: header.time_ns,
        link,
        object: header.object,
        born_ns: header.born_ns,
        owner: Owner { tgid: header.owner_tgid, start_ns: header.owner_start_ns, comm: header.owner_comm },
        library: header.library,
        role,
        event,
    })
}

/// A word of a link.
fn word(link: &[u8; 32], index: usize) -> u64 {
    let (words, _) = link.as_chunks::<8>();
    words.get(index).map_or(0, |word| u64::from_ne_bytes(*word))
}

/// What the bits of a link say of a direction.
fn keyed(keys: u64, direction: u8) -> Keyed {
    let has = |bit: u64| keys & bit << direction != 0;
    match (has(CLEAR), has(LATE)) {
        (false, _) => Keyed::Never,
        (true, false) => Keyed::FromBeginning,
        (true, true) => Keyed::Late,
    }
}

fn data<'a>(header: &PlaintextHeader, payload: &'a [u8]) -> Result<Data<'a>, RecordError> {
    if header.captured > header.length {
        return Err(RecordError::Value("length"));
    }
    let direction = direction(header.direction)?;
    // A library gives what is inside TLS, never TLS itself.
    let class = class(header.class)?;
    if matches!(class, Class::Tls | Class::TlsHeader) {
        return Err(RecordError::Value("class"));
    }
    Ok(Data {
        direction,
        offset: header.offset,
        length: header.length,
        payload,
        class,
        gap: header.marks & MARK_GAP != 0,
        muted: header.marks & MARK_MUTED != 0,
        peer: peer(header)?,
    })
}

fn peer(header: &PlaintextHeader) -> Result<Peer, RecordError> {
    let presented = match header.presented {
        PRESENTED_UNKNOWN => None,
        PRESENTED_NONE => Some(false),
        PRESENTED_YES => Some(true),
        _ => return Err(RecordError::Value("presented")),
    };
    Ok(Peer { presented, result: (header.has_result != 0).then_some(header.result) })
}

#[cfg(test)]
mod tests {
    use auditor_abi::record::CLASS_REQUEST;
    use proptest::prelude::*;
    use zerocopy::{FromZeros as _, IntoBytes as _};

    use super::*;

    fn header() -> PlaintextHeader {
        let mut header = PlaintextHeader::new_zeroed();
        header.link[0] = 7;
        header.length = 4;
        header.captured = 3;
        header.class = CLASS_REQUEST;
        header.owner_tgid = 9;
        header
    }

    #[test]
    fn a_record_is_decoded() {
        // The ring's memory is longer than what was captured; the rest means nothing.
        let bytes = [header().as_bytes(), b"GETxxxx"].concat();
        let record = decode(&bytes).unwrap();
        assert!(matches!(record.link, Link::Random(random) if random[0] == 7));
        let Event::Data(data) = record.event else { panic!("{record:?}") };
        assert_eq!((data.payload, data.length, data.class), (b"GET".as_slice(), 4, Class::Request));
        assert_eq!(data.peer, Peer::default());
        let mut unlinked = header();
        (unlinked.link, unlinked.link_kind) = ([0; 32], LINK_COOKIE);
        assert_eq!(decode(&[unlinked.as_bytes(), b"GET"].concat()).unwrap().link, Link::Nothing);
    }

    #[test]
    fn keys_of_the_kernel_are_told_by_direction() {
        let cases = [
            (0, Keyed::Never, Keyed::Never),
            (CLEAR, Keyed::FromBeginning, Keyed::Never),
            (CLEAR << 1 | LATE << 1, Keyed::Never, Keyed::Late),
            (CLEAR | LATE | CLEAR << 1, Keyed::Late, Keyed::FromBeginning),
        ];
        for (bits, egress, ingress) in cases {
            let mut header = header();
            header.link_kind = LINK_KERNEL;
            header.link[..8].copy_from_slice(&5_u64.to_ne_bytes());
            header.link[8..16].copy_from_slice(&bits.to_ne_bytes());
            let record = [header.as_bytes(), b"GET"].concat();
            assert_eq!(decode(&record).unwrap().link, Link::Kernel(SocketId(5), Keys { egress, ingress }));
        }
    }

    #[test]
    fn what_no_program_writes_is_refused() {
        type Change = fn(&mut PlaintextHeader);
        let changes: [(&str, Change); 7] = [
            ("class", |h| h.class = 99),
            ("direction", |h| h.direction = 2),
            ("event", |h| h.what = 9),
            ("length", |h| h.length = 2),
            ("link", |h| h.link_kind = 3),
            ("presented", |h| h.presented = 3),
            ("role", |h| h.role = 3),
        ];
        for (name, change) in changes {
            let mut header = header();
            change(&mut header);
            let refused = decode(&[header.as_bytes(), b"GET"].concat()).map(|_| ());
            assert_eq!(refused, Err(RecordError::Value(name)));
        }
        assert_eq!(decode(&[header().as_bytes(), b"GE"].concat()).map(|_| ()), Err(RecordError::Short));
        assert_eq!(decode(&[0; 10]).map(|_| ()), Err(RecordError::Short));
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(0_u8..9, 0..200)) {
            if let Ok(Record { event: Event::Data(data), .. }) = decode(&bytes) {
                prop_assert!(data.payload.len() <= data.length as usize);
            }
        }
    }
}
