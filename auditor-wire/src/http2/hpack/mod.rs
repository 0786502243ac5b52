//! HPACK (RFC 7541): header blocks to fields. A decoder of our own, for two reasons: it says which fields it knows when the dynamic
//! table is not known whole, and its memory and work are bounded by what it is given, whatever the peer claims.

mod huffman;
mod table;

use zeroize::Zeroizing;

use self::table::{Found, Table};

/// A field of a header list. `None` where it stands in a part of the dynamic table that is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// Name.
    pub name: Option<&'a [u8]>,
    /// Value.
    pub value: Option<&'a [u8]>,
}

/// A block that is none: the peer ends the connection (RFC 7541 section 3.2, RFC 9113 section 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// Decoder of one direction of a connection. Every block of the direction must pass through it, in order.
#[derive(Default)]
pub struct Decoder {
    table: Table,
}

impl Decoder {
    /// A block was missed, or broken off: of the dynamic table nothing is certain any more.
    pub fn lose(&mut self) {
        self.table.lose();
    }

    /// Decodes a block, field by field, to `put`. Work is in proportion to the block's length and to what `put` does with fields;
    /// one byte may stand for a field as long as the table.
    ///
    /// # Errors
    /// When it is none. The table is then lost.
    pub fn decode(&mut self, block: &[u8], put: &mut dyn FnMut(Field<'_>)) -> Result<(), Broken> {
        let mut input = Input { bytes: block };
        let result = self.fields(&mut input, put);
        if result.is_err() {
            self.table.lose();
        }
        result
    }

    fn fields(&mut self, input: &mut Input<'_>, put: &mut dyn FnMut(Field<'_>)) -> Result<(), Broken> {
        while let Some(&first) = input.bytes.first() {
            match first {
                // An entry of the tables (section 6.1).
                0x80.. => match self.table.get(input.integer(7)?) {
                    Found::Entry(name, value) => put(Field { name: Some(name), value: Some(value) }),
                    Found::Unknown => put(Field { name: None, value: None }),
                    Found::Nothing => return Err(Broken),
                },
                // A literal that becomes an entry (section 6.2.1).
                0x40.. => {
                    let (name, value) = self.literal(input, 6)?;
                    let (name, value) = (name.bytes(), value.bytes());
                    put(Field { name, value });
                    self.table.add(name, value.unwrap_or_default());
                }
                0x20.. => self.table.resize(input.integer(5)?),
                // A literal that does not (sections 6.2.2 and 6.2.3).
                _ => {
                    let (name, value) = self.literal(input, 4)?;
                    put(Field { name: name.bytes(), value: value.bytes() });
                }
            }
        }
        Ok(())
    }

    fn literal<'a>(&self, input: &mut Input<'a>, prefix: u8) -> Result<(Text<'a>, Text<'a>), Broken> {
        let name = match input.integer(prefix)? {
            0 => input.string()?,
            index => match self.table.get(index) {
                Found::Entry(name, _) => Text::Own(Zeroizing::new(name.to_vec())),
                Found::Unknown => Text::Unknown,
                Found::Nothing => return Err(Broken),
            },
        };
        Ok((name, input.string()?))
    }

    /// Bytes that are kept.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.table.buffered()
    }
}

/// A string of a literal.
enum Text<'a> {
    Borrowed(&'a [u8]),
    Own(Zeroizing<Vec<u8>>),
    Unknown,
}

impl Text<'_> {
    fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Borrowed(bytes) => Some(bytes),
            Self::Own(bytes) => Some(bytes),
            Self::Unknown => None,
        }
    }
}

/// What is left of a block.
struct Input<'a> {
    bytes: &'a [u8],
}

impl<'a> Input<'a> {
    fn byte(&mut self) -> Result<u8, Broken> {
        let (first, rest) = self.bytes.split_first().ok_or(Broken)?;
        self.bytes = rest;
        Ok(*first)
    }

    /// An integer with a prefix of so many bits (section 5.1); none that is meant is above 2^28.
    fn integer(&mut self, prefix: u8) -> Result<usize, Broken> {
        let mask = (1_usize << prefix) - 1;
        let mut value = usize::from(self.byte()?) & mask;
        if value < mask {
            return Ok(value);
        }
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Broken)
    }

    /// A string (section 5.2).
    fn string(&mut self) -> Result<Text<'a>, Broken> {
        let coded = self.bytes.first().is_some_and(|first| first & 0x80 != 0);
        let length = self.integer(7)?;
        let (bytes, rest) = self.bytes.split_at_checked(length).ok_or(Broken)?;
        self.bytes = rest;
        if !coded {
            return Ok(Text::Borrowed(bytes));
        }
        // The shortest code has five bits: what is decoded fits without growing, which would leave a copy behind.
        let mut text = Zeroizing::new(Vec::with_capacity(length * 8 / 5 + 1));
        huffman::decode(bytes, |byte| text.push(byte)).ok_or(Broken)?;
        Ok(Text::Own(text))
    }
}

/// How an encoder puts a field: what tests make their blocks with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// By its index in the tables.
    Index(usize),
    /// A literal that becomes an entry, its name by index when that is not 0.
    Entry(usize),
    /// A literal that does not.
    Literal(usize),
}

/// Appends a field to a block, strings as they are or by the Huffman code.
pub fn encode(block: &mut Vec<u8>, put: Put, name: &[u8], value: &[u8], huffman: bool) {
    let string = |block: &mut Vec<u8>, text: &[u8]| {
        let coded = huffman.then(|| huffman::encode(text));
        let bytes = coded.as_deref().unwrap_or(text);
        integer(block, u8::from(huffman) << 7, 7, bytes.len());
        block.extend(bytes);
    };
    let (pattern, prefix, index) = match put {
        Put::Index(index) => return integer(block, 0x80, 7, index),
        Put::Entry(index) => (0x40, 6, index),
        Put::Literal(index) => (0, 4, index),
    };
    integer(block, pattern, prefix, index);
    if index == 0 {
        string(block, name);
    }
    string(block, value);
}

/// Appends a size update to a block.
pub fn encode_size(block: &mut Vec<u8>, size: usize) {
    integer(block, 0x20, 5, size);
}

fn integer(block: &mut Vec<u8>, pattern: u8, prefix: u8, value: usize) {
    let mask = (1_usize << prefix) - 1;
    let low = |value: usize| value.to_le_bytes()[0];
    if value < mask {
        return block.push(pattern | low(value));
    }
    block.push(pattern | low(mask));
    let mut rest = value - mask;
    while rest >= 0x80 {
        block.push(low(rest & 0x7f) | 0x80);
        rest >>= 7;
    }
    block.push(low(rest));
}

#[cfg(test)]
pub(crate) mod tests;
