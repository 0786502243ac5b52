//! TLS 1.2 and older: what the client did about its certificate stands in clear messages (RFC 5246 section 7.3).

use super::handshake::{Message, has_certificates, kind};
use super::record::{CHANGE_CIPHER_SPEC, HANDSHAKE};
use super::{Accepted, ClientCertificate, Side};

/// How many records after a handshake without a certificate are looked at for another handshake.
const LATER_RECORDS: u8 = 8;

/// What a handshake in clear has shown.
#[derive(Clone, Debug, Default)]
pub(super) struct Clear {
    asked: bool,
    server_certificate: bool,
    server_done: bool,
    /// The client's Certificate message, and whether there is one in it.
    client_certificate: Option<bool>,
    verified: bool,
    /// Messages of the client were not read.
    unread: bool,
    /// Messages of the server were not read.
    server_unread: bool,
    client: Cipher,
    server: Cipher,
    resumed: bool,
    renegotiated: bool,
    /// Who was first to end something.
    closed_by: Option<Side>,
    /// Who ended the handshake before the server's Finished.
    ended_by: Option<Side>,
    /// Bytes of a side were lost: what it did since is not known.
    client_lost: bool,
    server_lost: bool,
    later: u8,
    over: bool,
}

/// How far a side's encryption is.
#[derive(Clone, Copy, Debug, Default)]
struct Cipher {
    changed: bool,
    finished: bool,
}

/// What is said of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) certificate: ClientCertificate,
    pub(super) accepted: Accepted,
    pub(super) refused: Option<ClientCertificate>,
    pub(super) requested: Option<bool>,
    pub(super) resumed: Option<bool>,
    pub(super) settled: bool,
}

impl Clear {
    /// What this side sends is encrypted.
    pub(super) fn is_encrypted(&self, side: Side) -> bool {
        self.cipher(side).changed
    }

    fn cipher(&self, side: Side) -> Cipher {
        match side {
            Side::Client => self.client,
            Side::Server => self.server,
        }
    }

    /// A record begins.
    pub(super) fn record(&mut self, side: Side, content: u8) {
        if self.client.finished && self.server.finished {
            self.later = self.later.saturating_add(1);
        }
        let mut cipher = self.cipher(side);
        match content {
            CHANGE_CIPHER_SPEC => {
                // In a full handshake the client is first, and the server has sent its certificate or at least the end of its
                // flight.
                let first = side == Side::Server && !self.client.changed && !cipher.changed;
                let missed = self.unread || self.server_unread;
                self.resumed |= first && !missed && !self.server_certificate && !self.server_done;
                cipher.changed = true;
            }
            HANDSHAKE if cipher.finished => self.renegotiated |= side == Side::Client,
            HANDSHAKE if cipher.changed => cipher.finished = true,
            _ => {}
        }
        match side {
            Side::Client => self.client = cipher,
            Side::Server => self.server = cipher,
        }
    }

    /// A message in clear.
    pub(super) fn message(&mut self, side: Side, message: &Message) {
        match (side, message.kind) {
            (Side::Server, kind::CERTIFICATE) => self.server_certificate = true,
            (Side::Server, kind::CERTIFICATE_REQUEST) => self.asked = true,
            (Side::Server, kind::SERVER_HELLO_DONE) => self.server_done = true,
            (Side::Client, kind::CERTIFICATE) => {
                self.client_certificate = has_certificates(&message.body);
                self.unread |= self.client_certificate.is_none();
            }
            (Side::Client, kind::CERTIFICATE_VERIFY) => self.verified = true,
            _ => {}
        }
    }

    /// Messages of a side may have been missed.
    pub(super) fn unread(&mut self, side: Side) {
        match side {
            Side::Client => self.unread |= !self.client.changed,
            Side::Server => self.server_unread |= !self.server.changed,
        }
    }

    /// Bytes of a side were lost.
    pub(super) fn lost(&mut self, side: Side) {
        self.unread(side);
        match side {
            Side::Client => self.client_lost = true,
            Side::Server => self.server_lost = true,
        }
    }

    /// A side sent an alert in clear that ends the connection.
    pub(super) fn alert(&mut self, side: Side) {
        self.closed_by.get_or_insert(side);
        self.close();
    }

    /// A side ended its direction, or with `reset` both. A client that only ended its own may still be answered.
    pub(super) fn end(&mut self, side: Side, reset: bool) {
        self.closed_by.get_or_insert(side);
        if reset || side == Side::Server {
            self.close();
        }
    }

    /// Nothing more will come.
    pub(super) fn finish(&mut self) {
        if self.closed_by.is_some() {
            self.close();
        }
        self.over = true;
    }

    fn close(&mut self) {
        if !self.server.changed && !self.server_lost {
            self.ended_by = self.closed_by;
        }
        self.over = true;
    }

    /// What the client gave.
    fn gave(&self) -> ClientCertificate {
        match self.client_certificate {
            _ if self.resumed => ClientCertificate::Resumed,
            _ if self.renegotiated && self.client_certificate != Some(true) => ClientCertificate::Undetermined,
            // Without a signature it did not prove to hold the key.
            Some(true) if self.verified || self.unread => ClientCertificate::Presented,
            Some(false) => ClientCertificate::Empty,
            None if !self.unread => ClientCertificate::None,
            _ => ClientCertificate::Undetermined,
        }
    }

    /// What is said of it so far.
    pub(super) fn judge(&self) -> Verdict {
        let requested = match self.client_certificate {
            Some(_) => Some(true),
            None if self.asked => Some(true),
            None => (self.server_done && !self.server_unread).then_some(false),
        };
        let resumed =
            if self.resumed { Some(true) } else { (self.server_certificate || self.server_done).then_some(false) };
        let mut verdict = Verdict { requested, resumed, settled: self.over, ..Verdict::default() };
        if let Some(side) = self.ended_by {
            verdict.certificate = ClientCertificate::Rejected;
            verdict.accepted = Accepted::No;
            verdict.refused = (side == Side::Server).then(|| self.given());
            verdict.settled = true;
        } else if self.client.changed || self.resumed {
            verdict.certificate = self.gave();
            if verdict.certificate != ClientCertificate::Undetermined && self.server.changed {
                verdict.accepted = Accepted::Yes;
            }
            verdict.settled |= self.is_settled(verdict.certificate);
        } else {
            verdict.settled |= self.server.changed || self.client_lost;
        }
        verdict
    }

    /// What the client had given when the server ended the handshake, which may have been in the middle of its messages.
    fn given(&self) -> ClientCertificate {
        match self.client_certificate {
            Some(true) => ClientCertificate::Presented,
            Some(false) => ClientCertificate::Empty,
            None if self.client.changed && !self.unread => ClientCertificate::None,
            None => ClientCertificate::Undetermined,
        }
    }

    fn is_settled(&self, certificate: ClientCertificate) -> bool {
        self.server_lost
            || match certificate {
                ClientCertificate::None | ClientCertificate::Empty => self.later >= LATER_RECORDS,
                _ => self.server.changed,
            }
    }
}
