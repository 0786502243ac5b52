//! Handshake messages in clear (RFC 8446 section 4, RFC 5246 section 7.4), put together from records that may hold a part of one
//! or several. What is not needed is not kept.

use super::hello::LONGEST_HELLO;

/// Most bytes of messages and certificates that are held for one side.
pub(super) const MOST_HELD: usize = 32 << 10;

/// Most certificates of a chain that are kept.
const MOST_CERTIFICATES: usize = 16;

/// The kinds of messages that say something.
pub(super) mod kind {
    pub(in super::super) const CLIENT_HELLO: u8 = 1;
    pub(in super::super) const SERVER_HELLO: u8 = 2;
    pub(in super::super) const NEW_SESSION_TICKET: u8 = 4;
    pub(in super::super) const CERTIFICATE: u8 = 11;
    pub(in super::super) const CERTIFICATE_REQUEST: u8 = 13;
    pub(in super::super) const SERVER_HELLO_DONE: u8 = 14;
    pub(in super::super) const CERTIFICATE_VERIFY: u8 = 15;
}

/// Where one side's handshake messages stand.
#[derive(Clone, Default)]
pub(super) struct Messages {
    header: [u8; 4],
    /// Bytes of the header that are there.
    have: usize,
    /// Bytes of the body that are still to come.
    left: usize,
    /// Bytes of the body that are to be kept, and those that are.
    wanted: usize,
    kept: Vec<u8>,
    /// The message was told; the rest of its body is passed over.
    told: bool,
    lost: bool,
}

/// A message, or the begin of one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: u8,
    /// As much of the body as is needed and there.
    pub(super) body: Vec<u8>,
    /// That is all of it.
    pub(super) whole: bool,
}

impl Messages {
    /// Bytes held.
    pub(super) fn held(&self) -> usize {
        self.kept.len()
    }

    /// Messages may have been missed.
    pub(super) fn is_lost(&self) -> bool {
        self.lost
    }

    /// No message can be found any more.
    pub(super) fn lose(&mut self) {
        self.lost = true;
        self.kept = Vec::new();
    }

    /// Takes the next message that comes to its end in `bytes`, of which at most `room` bytes are kept.
    pub(super) fn next(&mut self, bytes: &mut &[u8], room: usize) -> Option<Message> {
        while !self.lost {
            if self.have < self.header.len() {
                let (part, rest) = bytes.split_at(bytes.len().min(self.header.len() - self.have));
                *bytes = rest;
                self.header[self.have..self.have + part.len()].copy_from_slice(part);
                self.have += part.len();
                if self.have < self.header.len() {
                    return None;
                }
                self.begin(room);
            } else if bytes.is_empty() {
                return None;
            }
            let (part, rest) = bytes.split_at(bytes.len().min(self.left));
            *bytes = rest;
            self.left -= part.len();
            let kept = part.len().min(self.wanted - self.kept.len());
            self.kept.extend_from_slice(&part[..kept]);
            let message = (!self.told && self.kept.len() == self.wanted).then(|| self.tell(self.is_whole()));
            if self.left == 0 {
                self.have = 0;
            }
            if message.is_some() {
                return message;
            }
        }
        None
    }

    /// Passes over bytes that were not copied. A message whose rest is among them is told as far as it is there.
    pub(super) fn skip(&mut self, count: u16) -> Option<Message> {
        let count = usize::from(count);
        if self.lost || count == 0 {
            return None;
        }
        let message = (self.have == self.header.len() && !self.told).then(|| self.tell(false));
        if self.have == self.header.len() && count <= self.left {
            self.left -= count;
            if self.left == 0 {
                self.have = 0;
            }
        } else {
            self.lose();
        }
        message
    }

    fn begin(&mut self, room: usize) {
        let [kind, high, middle, low] = self.header;
        self.left = u32::from_be_bytes([0, high, middle, low]) as usize;
        let (least, most) = match kind {
            kind::CLIENT_HELLO | kind::SERVER_HELLO => (0, LONGEST_HELLO.min(room)),
            // How long the list is stands in front.
            kind::CERTIFICATE => (3, room),
            kind::NEW_SESSION_TICKET => (0, room),
            _ => (0, 0),
        };
        self.wanted = if self.left <= most { self.left } else { least.min(self.left) };
        self.told = false;
    }

    fn is_whole(&self) -> bool {
        let [_, high, middle, low] = self.header;
        self.wanted == u32::from_be_bytes([0, high, middle, low]) as usize
    }

    fn tell(&mut self, whole: bool) -> Message {
        self.told = true;
        self.wanted = 0;
        Message { kind: self.header[0], body: std::mem::take(&mut self.kept), whole }
    }
}

/// The certificates of a Certificate message of TLS 1.2 and older (RFC 5246 section 7.4.2), as far as they are there.
pub(super) fn certificates(body: &[u8]) -> Vec<Box<[u8]>> {
    let mut found = Vec::new();
    let mut rest = body.get(3..).unwrap_or_default();
    while let Some((length, after)) = rest.split_first_chunk::<3>()
        && found.len() < MOST_CERTIFICATES
    {
        let [high, middle, low] = *length;
        let Some((certificate, after)) = after.split_at_checked(u32::from_be_bytes([0, high, middle, low]) as usize)
        else {
            break;
        };
        found.push(certificate.into());
        rest = after;
    }
    found
}

/// Whether a Certificate message of TLS 1.2 and older holds a certificate, where its begin is there.
pub(super) fn has_certificates(body: &[u8]) -> Option<bool> {
    body.first_chunk::<3>().map(|length| *length != [0, 0, 0])
}

/// The ticket of a NewSessionTicket message of TLS 1.2 and older (RFC 5077 section 3.3).
pub(super) fn ticket(body: &[u8]) -> Option<&[u8]> {
    let length = body.get(4..6).map(|length| usize::from(u16::from_be_bytes([length[0], length[1]])))?;
    body.get(6..6 + length).filter(|ticket| !ticket.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let [.., high, middle, low] = body.len().to_be_bytes();
        [&[kind, high, middle, low], body].concat()
    }

    fn read(messages: &mut Messages, mut bytes: &[u8]) -> Vec<Message> {
        std::iter::from_fn(|| messages.next(&mut bytes, MOST_HELD)).collect()
    }

    #[test]
    fn puts_messages_together_at_any_cut() {
        let stream = [message(2, &[5; 40]), message(14, &[]), message(11, &[0, 0, 0]), message(16, &[9; 20])].concat();
        let expected = [
            Message { kind: 2, body: vec![5; 40], whole: true },
            Message { kind: 14, body: vec![], whole: true },
            Message { kind: 11, body: vec![0, 0, 0], whole: true },
            Message { kind: 16, body: vec![], whole: false },
        ];
        for cut in 0..=stream.len() {
            let mut messages = Messages::default();
            let mut found = read(&mut messages, &stream[..cut]);
            found.extend(read(&mut messages, &stream[cut..]));
            assert_eq!(found, expected, "cut at {cut}");
            assert_eq!((messages.held(), messages.have), (0, 0));
        }
    }

    #[test]
    fn a_cut_message_is_told_as_far_as_it_is_there() {
        let mut messages = Messages::default();
        let chain = message(11, &[&[0, 3, 0][..], &[7; 768]].concat());
        assert_eq!(read(&mut messages, &chain[..100]), []);
        assert_eq!(messages.skip(600).map(|message| (message.body.len(), message.whole)), Some((96, false)));
        assert_eq!(messages.skip(75), None);
        assert_eq!(read(&mut messages, &message(14, &[])).len(), 1, "the next message's place is known");
        messages.skip(1);
        assert!(messages.is_lost());
        assert_eq!(read(&mut messages, &message(14, &[])), []);
    }

    #[test]
    fn what_is_too_long_is_told_without_its_body() {
        let mut messages = Messages::default();
        let long = message(11, &[1; MOST_HELD + 1]);
        assert_eq!(read(&mut messages, &long), [Message { kind: 11, body: vec![1; 3], whole: false }]);
        let long = message(1, &[1; LONGEST_HELLO + 1]);
        assert_eq!(read(&mut messages, &long), [Message { kind: 1, body: vec![], whole: false }]);
        assert_eq!(messages.have, 0);
    }

    #[test]
    fn reads_chains_and_tickets() {
        let body = [&[0, 0, 10][..], &[0, 0, 2, 8, 8], &[0, 0, 2, 9, 9]].concat();
        assert_eq!(certificates(&body), [Box::from([8, 8]), Box::from([9, 9])]);
        assert_eq!(certificates(&[0; MOST_HELD]).len(), MOST_CERTIFICATES);
        assert_eq!(certificates(&body[..12]), [Box::from([8, 8])]);
        assert_eq!((has_certificates(&body), has_certificates(&[0, 0, 0])), (Some(true), Some(false)));
        assert_eq!(has_certificates(&[0, 0]), None);
        assert_eq!(ticket(&[0, 0, 0, 9, 0, 2, 4, 5]), Some(&[4, 5][..]));
        assert_eq!(ticket(&[0, 0, 0, 9, 0, 3, 4, 5]), None);
        assert_eq!(ticket(&[0, 0, 0, 9, 0, 0]), None);
    }
}
