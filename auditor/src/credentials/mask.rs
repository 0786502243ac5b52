//! Masking: a secret is overwritten by filler of the same length and shape, so that what is made of it stays the same and
//! the secret is gone. Filler depends on the fingerprint key and the secret only: equal secrets stay equal.

use std::io::Write;

use base64::Engine;
use zeroize::Zeroizing;

use super::{
    Claims, FingerprintKey,
    authorization::{self, BASE64, NTLM_NEGOTIATE, Scheme, decode_basic},
    jwt::{self, BASE64URL},
    shape::is_placeholder,
};

/// Names of parameters of `Authorization`, `Signature-Input` and challenges: they stay, their values do not.
const PARAMETERS: [&[u8]; 33] = [
    b"algorithm",
    b"alg",
    b"app",
    b"bewit",
    b"charset",
    b"cnonce",
    b"created",
    b"credential",
    b"dlg",
    b"domain",
    b"error",
    b"expires",
    b"ext",
    b"hash",
    b"headers",
    b"id",
    b"k",
    b"keyid",
    b"mac",
    b"nc",
    b"nonce",
    b"opaque",
    b"qop",
    b"realm",
    b"response",
    b"scope",
    b"sig1",
    b"signature",
    b"signedheaders",
    b"stale",
    b"ts",
    b"uri",
    b"username",
];

/// Overwrites secrets within buffers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Masker<'a> {
    pub(super) key: &'a FingerprintKey,
}

impl Masker<'_> {
    /// Overwrites a value: the JWTs in it keep header and safe claims, everything else becomes filler. Placeholders stay.
    pub(super) fn value(self, value: &mut [u8]) {
        if is_literal_placeholder(value) {
            return;
        }
        let tokens: Vec<_> = if jwt::possible(value) { jwt::find(value).take(64).collect() } else { Vec::new() };
        let mut at = 0;
        for (range, claims) in tokens {
            self.fill(&mut value[at..range.start]);
            at = range.end;
            self.token(&mut value[range], &claims);
        }
        self.fill(&mut value[at..]);
    }

    /// Overwrites the JWTs in a value, and what begins like one and may be a cut one; leaves the rest.
    pub(super) fn tokens(self, value: &mut [u8]) {
        if !jwt::possible(value) {
            return;
        }
        for run in jwt::candidates(value).collect::<Vec<_>>() {
            match jwt::read(&value[run.clone()]) {
                Some(claims) => self.token(&mut value[run], &claims),
                None => self.fill(&mut value[run]),
            }
        }
    }

    /// Overwrites letters by letters of the same case, digits by digits, other characters by `_` unless they separate parts.
    /// So the result is of the same shape as the secret: random where that is random, a template where that is one.
    pub(super) fn fill(self, value: &mut [u8]) {
        // One character is no secret, and `0` and `1` are switches.
        if value.len() < 2 || is_literal_placeholder(value) {
            return;
        }
        let mut random = self.key.stream(value);
        let mut block = [0_u8; 64];
        let mut at = 0;
        while at < value.len() {
            random.fill(&mut block);
            let end = value.len().min(at + block.len());
            for offset in at..end {
                let noise = block[offset - at];
                value[offset] = match value[offset] {
                    b'a'..=b'z' => b'a' + noise % 26,
                    b'A'..=b'Z' => b'A' + noise % 26,
                    b'0'..=b'9' => b'0' + noise % 10,
                    kept if b" \t-._~{}<>$()[]=,;:/+&@\"%".contains(&kept) => kept,
                    _ => b'_',
                };
            }
            at = end;
        }
        escapes(value);
        // Filler must not turn a secret into what counts as none.
        let none = is_literal_placeholder(value) || authorization::scheme(value).is_some();
        if let Some(first) = value.iter_mut().find(|byte| byte.is_ascii_alphanumeric())
            && none
        {
            *first = b'x';
        }
    }

    /// Overwrites an `Authorization` value; the scheme stays where it is a known one.
    pub(super) fn authorization(self, value: &mut [u8]) {
        let (word, rest) = authorization::split(value);
        let start = rest.as_ptr().addr() - value.as_ptr().addr();
        let (Some(scheme), false) = (authorization::scheme(word), rest.is_empty()) else {
            return self.value(value);
        };
        let end = start + rest.len();
        let rest = &mut value[start..end];
        match scheme {
            _ if is_literal_placeholder(rest) => {}
            Scheme::Basic => self.basic(rest),
            Scheme::Negotiate if rest.starts_with(NTLM_NEGOTIATE) => self.fill(&mut rest[NTLM_NEGOTIATE.len()..]),
            Scheme::Digest | Scheme::Signature | Scheme::Sigv4 | Scheme::Other => self.parameters(rest),
            _ => self.value(rest),
        }
    }

    /// Overwrites `user:password` in base64; the colon stays, and with it the lengths of the two.
    fn basic(self, encoded: &mut [u8]) {
        let Some(mut decoded) = decode_basic(encoded) else { return self.value(encoded) };
        if &**decoded == b":" {
            return;
        }
        let mut stream = self.key.stream(&decoded);
        let mut noise = Zeroizing::new(vec![0; decoded.len()]);
        stream.fill(&mut noise);
        let mut colon_seen = false;
        for (byte, noise) in decoded.iter_mut().zip(noise.iter()) {
            if *byte == b':' && !colon_seen {
                colon_seen = true;
            } else {
                *byte = b'a' + noise % 26;
            }
        }
        let text = BASE64.encode(&**decoded);
        let unpadded = text.trim_end_matches('=');
        match [text.as_str(), unpadded].into_iter().find(|text| text.len() == encoded.len()) {
            Some(text) => encoded.copy_from_slice(text.as_bytes()),
            None => self.value(encoded),
        }
    }

    /// Overwrites the values of a list `name=value, name="value"`; known names stay.
    pub(super) fn parameters(self, list: &mut [u8]) {
        for item in list.split_mut(|byte| matches!(byte, b',' | b' ' | b';')) {
            match item.iter().position(|byte| *byte == b'=') {
                Some(equals) if PARAMETERS.iter().any(|name| name.eq_ignore_ascii_case(&item[..equals])) => {
                    self.value(&mut item[equals + 1..]);
                }
                _ => self.value(item),
            }
        }
    }

    /// Overwrites the values of `name=value` pairs; what is no pair, and names that are too long to be names, go too.
    pub(super) fn pairs(self, list: &mut [u8], separators: &[u8]) {
        for pair in list.split_mut(|byte| separators.contains(byte)) {
            match pair.iter().position(|byte| *byte == b'=') {
                Some(equals) if pair[..equals].len() <= 64 && !super::shape::is_token(pair[..equals].trim_ascii()) => {
                    self.value(&mut pair[equals + 1..]);
                }
                _ => self.value(pair),
            }
        }
    }

    /// Overwrites a JWT: `alg` and the safe claims are written anew, the rest is filler. White space that depends on the whole token
    /// takes the room of what is left out: tokens that differ in that alone stay different.
    fn token(self, token: &mut [u8], claims: &Claims) {
        let lengths: Vec<usize> = token.split(|byte| *byte == b'.').map(<[u8]>::len).collect();
        let (header, payload) = (lengths[0], lengths[1]);
        let mut stream = self.key.stream(token);
        let mut blank = |padding: &mut [u8]| {
            stream.fill(padding);
            padding.iter_mut().for_each(|byte| *byte = b" \t\r\n"[usize::from(*byte % 4)]);
        };
        let (head, rest) = token.split_at_mut(header);
        let (body, tail) = rest.split_at_mut(payload + 1);
        let body = &mut body[1..];
        if !write_part(head, &[safe_header(claims), serde_json::json!({ "alg": claims.alg })], &mut blank) {
            return self.fill(token);
        }
        if claims.readable {
            let [all, times] = safe_claims(claims);
            if !write_part(body, &[all, times, serde_json::json!({})], &mut blank) {
                self.fill(body);
            }
        } else {
            self.fill(body);
        }
        tail.split_mut(|byte| *byte == b'.').for_each(|part| self.fill(part));
    }
}

/// What is safe of a token's header.
fn safe_header(claims: &Claims) -> serde_json::Value {
    let members = [("alg", &claims.alg), ("enc", &claims.enc), ("kid", &claims.kid), ("cty", &claims.cty)];
    let present = members.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text.as_deref()?.into())));
    serde_json::Value::Object(present.collect())
}

/// The safe claims as short as they can be written, and those of time alone.
fn safe_claims(claims: &Claims) -> [serde_json::Value; 2] {
    let mut all = serde_json::Map::new();
    let mut times = serde_json::Map::new();
    for (name, time) in [("exp", claims.exp), ("nbf", claims.nbf), ("iat", claims.iat)] {
        if let Some(time) = time {
            all.insert(name.into(), time.into());
            times.insert(name.into(), time.into());
        }
    }
    for (name, text) in [("iss", &claims.iss), ("sub", &claims.sub), ("azp", &claims.client_id)] {
        if let Some(text) = text {
            all.insert(name.into(), (**text).into());
        }
    }
    match claims.aud.as_slice() {
        [] => {}
        [one] => drop(all.insert("aud".into(), (**one).into())),
        list => drop(all.insert("aud".into(), list.iter().map(|text| &**text).collect())),
    }
    for (name, words) in [("scp", &claims.scope), ("roles", &claims.roles)] {
        if !words.is_empty() {
            all.insert(name.into(), words.join(" ").into());
        }
    }
    if let Some(actor) = &claims.act {
        all.insert("act".into(), serde_json::json!({ "sub": actor }));
    }
    if let Some(method) = &claims.cnf {
        all.insert("cnf".into(), serde_json::Value::Object([((**method).into(), 0.into())].into_iter().collect()));
    }
    [all.into(), times.into()]
}

/// Writes the first of these values that fits into a base64url part, padded with what `blank` gives; false when none fits.
fn write_part(part: &mut [u8], values: &[serde_json::Value], blank: &mut dyn FnMut(&mut [u8])) -> bool {
    let room = part.len() / 4 * 3 + [0, 0, 1, 2][part.len() % 4];
    values.iter().any(|value| {
        let mut json = Vec::with_capacity(room);
        if write!(json, "{value}").is_err() || json.len() > room {
            return false;
        }
        let length = json.len();
        json.resize(room, b' ');
        blank(&mut json[length..]);
        let text = BASE64URL.encode(&json);
        let fits = text.len() == part.len();
        if fits {
            part.copy_from_slice(text.as_bytes());
        }
        fits
    })
}

/// A placeholder whose text is known, so that it holds no secret; of a template the inner part may be one.
fn is_literal_placeholder(value: &[u8]) -> bool {
    is_placeholder(value) && !value.iter().any(|byte| matches!(byte, b'$' | b'<')) && !value.starts_with(b"{{")
}

/// Mends percent-encoded characters whose digits were overwritten: `%5F`.
fn escapes(value: &mut [u8]) {
    let mut at = 0;
    while at < value.len() {
        if value[at] == b'%' {
            for (offset, digit) in [(1, b'5'), (2, b'F')] {
                if let Some(byte) = value.get_mut(at + offset)
                    && byte.is_ascii_alphanumeric()
                {
                    *byte = digit;
                }
            }
        }
        at += 1;
    }
}
