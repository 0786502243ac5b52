//! How the packet programs and the auditor agree on which calls may be passed over: by a keyed hash over all bytes of a request, and
//! by approvals of what was judged, which the programs can check and nothing else can make.
//!
//! The hash is SipHash-1-3 (Aumasson and Bernstein, "SipHash: a fast short-input PRF") with a random key of each run, over the
//! request in chunks, its length and its socket. It needs not be that of anybody else.

/// Bytes of a request that can be told from another by its hash, at least and at most: it must fit one segment, whole.
pub const BYTES: core::ops::RangeInclusive<u32> = 64..=1024;
/// Calls in a row that are alike, byte for byte, before one may be passed over.
pub const CALLS: u32 = 16;
/// Sockets whose calls may be passed over, at most.
pub const APPROVED_MAX: u32 = 16_384;
/// Bytes that are hashed at a time. The last chunk ends with the request, and may repeat some of the one before it.
pub const CHUNK: usize = 64;

/// The random key of a run.
pub type Key = [u32; 4];
/// An approval, as the map of them has it: until when it holds, `CLOCK_MONOTONIC`, nanoseconds; its [`seal`].
pub type Approval = [u64; 2];

/// A hash that goes on.
#[derive(Clone, Copy)]
pub struct Hash([u64; 4]);

impl Hash {
    /// One over nothing yet.
    #[inline(always)]
    #[must_use]
    pub fn new(key: Key) -> Self {
        let k0 = key[0] as u64 | (key[1] as u64) << 32;
        let k1 = key[2] as u64 | (key[3] as u64) << 32;
        Self([
            k0 ^ 0x736f_6d65_7073_6575,
            k1 ^ 0x646f_7261_6e64_6f6d,
            k0 ^ 0x6c79_6765_6e65_7261,
            k1 ^ 0x7465_6462_7974_6573,
        ])
    }

    /// Takes in eight bytes, in little-endian order.
    #[inline(always)]
    pub fn absorb(&mut self, word: u64) {
        self.0[3] ^= word;
        self.round();
        self.0[0] ^= word;
    }

    /// Takes in a chunk.
    #[inline(always)]
    pub fn chunk(&mut self, words: &[[u8; 8]; CHUNK / 8]) {
        for word in words {
            self.absorb(u64::from_le_bytes(*word));
        }
    }

    /// Its value.
    #[inline(always)]
    #[must_use]
    pub fn finish(mut self) -> u64 {
        self.0[2] ^= 0xff;
        for _ in 0..3 {
            self.round();
        }
        self.0[0] ^ self.0[1] ^ self.0[2] ^ self.0[3]
    }

    /// `SipRound`.
    #[inline(always)]
    fn round(&mut self) {
        let [mut a, mut b, mut c, mut d] = self.0;
        a = a.wrapping_add(b);
        b = b.rotate_left(13) ^ a;
        a = a.rotate_left(32);
        c = c.wrapping_add(d);
        d = d.rotate_left(16) ^ c;
        a = a.wrapping_add(d);
        d = d.rotate_left(21) ^ a;
        c = c.wrapping_add(b);
        b = b.rotate_left(17) ^ c;
        c = c.rotate_left(32);
        self.0 = [a, b, c, d];
    }
}

/// The hash of a request that a socket, known by its cookie, carried in one segment; `None` when it is too short or too long.
#[must_use]
pub fn of_request(key: Key, cookie: u64, request: &[u8]) -> Option<u64> {
    let length = u32::try_from(request.len()).ok().filter(|length| BYTES.contains(length))?;
    let mut hash = Hash::new(key);
    let mut at = 0;
    loop {
        let last = at + CHUNK >= request.len();
        let from = if last { request.len() - CHUNK } else { at };
        let mut words = [[0; 8]; CHUNK / 8];
        for (word, bytes) in words.iter_mut().zip(request[from..].chunks_exact(8)) {
            word.copy_from_slice(bytes);
        }
        hash.chunk(&words);
        if last {
            break;
        }
        at += CHUNK;
    }
    hash.absorb(u64::from(length));
    hash.absorb(cookie);
    Some(hash.finish())
}

/// What an approval is known by: the request's hash, the status it was answered with as its bytes are (see [`status`]), until when
/// it holds, `CLOCK_MONOTONIC`, nanoseconds, and the count of times that all approvals were withdrawn. One that was read in parts,
/// or made for anything else, does not fit.
#[inline(always)]
#[must_use]
pub fn seal(key: Key, request: u64, status: u32, until_ns: u64, withdrawals: u32) -> u64 {
    let mut hash = Hash::new(key);
    hash.absorb(request);
    hash.absorb((status as u64) << 32 | withdrawals as u64);
    hash.absorb(until_ns);
    hash.finish()
}

/// The four bytes behind `HTTP/1.1` in a response with this status, as the programs read them.
#[must_use]
pub fn status(code: u16) -> u32 {
    let digit = |value: u16| b'0' + (value % 10) as u8;
    u32::from_le_bytes([b' ', digit(code / 100), digit(code / 10), digit(code)])
}

/// What the map of one word says: of calls that repeat one of so many is copied, a power of two, 0 and 1 for all; how often all
/// approvals were withdrawn.
#[inline(always)]
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "each half of the word")]
pub fn sampling(word: u64) -> (u32, u32) {
    (word as u32, (word >> 32) as u32)
}

/// The other way round.
#[must_use]
pub fn sampling_word(one_of: u32, withdrawals: u32) -> u64 {
    u64::from(one_of) | u64::from(withdrawals) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = [0x0302_0100, 0x0706_0504, 0x0b0a_0908, 0x0f0e_0d0c];

    #[test]
    fn it_is_siphash_1_3() {
        // The vector of the reference implementation for no bytes at all, whose last block is its length, 0.
        let mut hash = Hash::new(KEY);
        hash.absorb(0);
        assert_eq!(hash.finish(), 0xabac_0158_050f_c4dc);
    }

    #[test]
    fn every_byte_the_length_and_the_socket_count() {
        let request = [b'a'; 1024];
        for length in [64, 65, 127, 128, 129, 1000, 1023, 1024] {
            let whole = &request[..length];
            let hash = of_request(KEY, 7, whole).expect("a length in range");
            assert_ne!(of_request(KEY, 8, whole), Some(hash), "another socket");
            assert_ne!(of_request([1, 2, 3, 4], 7, whole), Some(hash), "another key");
            for at in 0..length {
                let mut other = request;
                other[at] = b'b';
                assert_ne!(of_request(KEY, 7, &other[..length]), Some(hash), "byte {at} of {length}");
            }
        }
        assert_ne!(of_request(KEY, 7, &request[..64]), of_request(KEY, 7, &request[..65]));
        assert_eq!((of_request(KEY, 7, &request[..63]), of_request(KEY, 7, &[0; 1025])), (None, None));
    }

    #[test]
    fn a_seal_is_of_all_that_an_approval_says() {
        let sealed = seal(KEY, 1, status(200), 5, 0);
        for other in [
            seal(KEY, 2, status(200), 5, 0),
            seal(KEY, 1, status(201), 5, 0),
            seal(KEY, 1, status(200), 6, 0),
            seal(KEY, 1, status(200), 5, 1),
            seal([0; 4], 1, status(200), 5, 0),
        ] {
            assert_ne!(other, sealed);
        }
        assert_eq!(status(404), u32::from_le_bytes(*b" 404"));
        assert_eq!(sampling(sampling_word(64, u32::MAX)), (64, u32::MAX));
    }
}
