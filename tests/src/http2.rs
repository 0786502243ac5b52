//! Heads of HTTP/2 as a client without a compression table writes them: the reader needs none either.

/// The kind of the frames that state settings (RFC 9113 section 6.5).
pub const SETTINGS: u8 = 4;
/// `:method: GET`, `:method: POST`, `:scheme: http` and `:scheme: https` in HPACK's own table (RFC 7541 appendix A).
pub const GET: u8 = 0x82;
/// See [`GET`].
pub const POST: u8 = 0x83;
/// See [`GET`].
pub const HTTP: u8 = 0x86;
/// See [`GET`].
pub const HTTPS: u8 = 0x87;
/// `:status: 200`.
pub const OK: u8 = 0x88;

/// The header block of a request to the host `inside`, with a credential or without.
///
/// # Panics
/// When a value has more than 126 bytes: longer ones have a longer length.
#[must_use]
pub fn request(method: u8, scheme: u8, path: &str, authorization: Option<&str>) -> Vec<u8> {
    let mut block = vec![method, scheme];
    let mut literal = |name: &[u8], value: &str| {
        let length = u8::try_from(value.len()).ok().filter(|length| *length < 0x7f);
        block.extend(name);
        block.push(length.unwrap_or_else(|| panic!("{value} is too long")));
        block.extend(value.as_bytes());
    };
    // Names by their place in HPACK's own table: `:path`, `:authority`, `authorization`.
    literal(&[0x04], path);
    literal(&[0x01], "inside");
    if let Some(value) = authorization {
        literal(&[0x0f, 0x08], value);
    }
    block
}
