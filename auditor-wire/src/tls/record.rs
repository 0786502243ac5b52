//! The record layer (RFC 8446 section 5.1, RFC 5246 section 6.2): finds records in the bytes of one side, wherever those bytes
//! are cut. It copies no body.

/// Longest body of a record that is believed, bytes: 2^14 and what TLS 1.2 lets ciphers and compression add.
pub(super) const LONGEST_BODY: u16 = (1 << 14) + 2048;

/// The content type of `change_cipher_spec` records.
pub(super) const CHANGE_CIPHER_SPEC: u8 = 20;
/// The content type of alerts.
pub(super) const ALERT: u8 = 21;
/// The content type of handshake messages.
pub(super) const HANDSHAKE: u8 = 22;
/// The content type of application data, and in TLS 1.3 of all that is encrypted.
pub(super) const APPLICATION_DATA: u8 = 23;
/// The content type of heartbeats (RFC 6520), the last that is known.
const HEARTBEAT: u8 = 24;

/// Where one side's bytes stand in its records.
#[derive(Clone, Debug, Default)]
pub(super) struct Records {
    header: [u8; 5],
    /// Bytes of the header that are there.
    have: usize,
    /// Bytes of the body that are still to come.
    left: u16,
    lost: bool,
}

/// What comes next in a stream of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// A record begins.
    Header { content: u8, length: u16 },
    /// Bytes of its body.
    Body(&'a [u8]),
    /// Bytes of its body that were not copied.
    Skipped(u16),
    /// No record can be found from here on.
    Lost,
}

impl Records {
    /// Takes what comes next from the front of `bytes`.
    pub(super) fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Option<Piece<'a>> {
        if self.lost || bytes.is_empty() {
            return None;
        }
        if self.left > 0 {
            let (body, rest) = bytes.split_at(bytes.len().min(usize::from(self.left)));
            *bytes = rest;
            // A part of a body is not longer than the body.
            self.left -= u16::try_from(body.len()).unwrap_or(self.left);
            return Some(Piece::Body(body));
        }
        let (part, rest) = bytes.split_at(bytes.len().min(self.header.len() - self.have));
        *bytes = rest;
        self.header[self.have..self.have + part.len()].copy_from_slice(part);
        self.have += part.len();
        if self.have < self.header.len() {
            // Another protocol shows with its first byte.
            return if self.begins_a_record() { None } else { Some(self.lose()) };
        }
        self.have = 0;
        let [content, _, _, high, low] = self.header;
        let length = u16::from_be_bytes([high, low]);
        if !self.begins_a_record() || length > LONGEST_BODY {
            return Some(self.lose());
        }
        self.left = length;
        Some(Piece::Header { content, length })
    }

    /// Passes over bytes that were not copied. Only a body may be passed over: a header must be seen.
    pub(super) fn skip(&mut self, count: u64) -> Option<Piece<'static>> {
        if self.lost || count == 0 {
            return None;
        }
        match u16::try_from(count) {
            Ok(count) if count <= self.left => {
                self.left -= count;
                Some(Piece::Skipped(count))
            }
            _ => Some(self.lose()),
        }
    }

    /// Gives up: no record can be found any more.
    pub(super) fn lose(&mut self) -> Piece<'static> {
        self.lost = true;
        Piece::Lost
    }

    fn begins_a_record(&self) -> bool {
        // After the last byte of a header, `have` is 0 again.
        let have = if self.have == 0 { self.header.len() } else { self.have };
        matches!(self.header[0], CHANGE_CIPHER_SPEC..=HEARTBEAT)
            && (have < 2 || self.header[1] == 3)
            && (have < 3 || self.header[2] <= 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(records: &mut Records, mut bytes: &[u8]) -> Vec<(u8, u16)> {
        let mut found = Vec::new();
        while !bytes.is_empty() {
            match records.next(&mut bytes) {
                Some(Piece::Header { content, length }) => found.push((content, length)),
                Some(Piece::Lost) => found.push((0, 0)),
                Some(Piece::Body(_) | Piece::Skipped(_)) | None => {}
            }
            if records.lost {
                break;
            }
        }
        found
    }

    #[test]
    fn finds_records_at_any_cut() {
        let stream = [&[22, 3, 1, 0, 2, 7, 7][..], &[23, 3, 3, 0, 0], &[20, 3, 3, 0, 1, 1]].concat();
        let expected = [(22, 2), (23, 0), (20, 1)];
        for cut in 0..=stream.len() {
            let mut records = Records::default();
            let found = [headers(&mut records, &stream[..cut]), headers(&mut records, &stream[cut..])].concat();
            assert_eq!(found, expected, "cut at {cut}");
        }
    }

    #[test]
    fn passes_over_bodies_only() {
        let mut records = Records::default();
        assert_eq!(headers(&mut records, &[23, 3, 3, 0x40, 0x11]), [(23, 16_401)]);
        assert_eq!(records.skip(16_000), Some(Piece::Skipped(16_000)));
        assert_eq!(headers(&mut records.clone(), &[0; 401]), []);
        assert_eq!(records.clone().skip(402), Some(Piece::Lost));
        assert_eq!(records.skip(401), Some(Piece::Skipped(401)));
        assert_eq!(headers(&mut records, &[21, 3, 3, 0, 2]), [(21, 2)]);
    }

    #[test]
    fn gives_up_where_no_record_can_be() {
        for bytes in
            [&b"GET / HTTP/1.1\r\n"[..], &[22, 2], &[22, 3, 5], &[25], &[19, 3, 3], &[23, 3, 3, 0x48, 1], &[0x80, 0x2e]]
        {
            let mut records = Records::default();
            assert_eq!(headers(&mut records, bytes), [(0, 0)], "{bytes:?}");
            assert_eq!(records.next(&mut &[22, 3, 3, 0, 0][..]), None);
        }
    }
}
