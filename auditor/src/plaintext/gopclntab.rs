//! Go's table of functions (`.gopclntab`, runtime/symtab.go), which stays when a program is stripped: from names to addresses. A
//! bounded reader of bytes that may be anything. Layouts since Go 1.18 are read.

/// Magic numbers (internal/abi/symtab.go): Go 1.18 and 1.19, Go 1.20 and later.
const GO_1_18: u32 = 0xffff_fff0;
const GO_1_20: u32 = 0xffff_fff1;
/// Functions of a program that are looked at.
const MOST_FUNCTIONS: usize = 4 << 20;
/// Bytes of one row: two `u32`.
const ROW: usize = 8;

/// Why bytes are not a table that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// It is cut, or an offset leads out of it.
    #[error("the table of functions is cut short")]
    Short,
    /// Go 1.17 or older, or something unknown.
    #[error("the table of functions is of Go 1.17 or older, or of a kind that is not known")]
    Magic,
    /// Not for 64-bit little-endian machines.
    #[error("the table of functions is not for a 64-bit machine")]
    PointerSize,
}

/// Where a function lies, from the start of the program's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its first byte.
    pub start: u32,
    /// Behind its last byte, padding included.
    pub end: u32,
}

/// A table of functions.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a> {
    bytes: &'a [u8],
    functions: usize,
    /// Address of the text as the table has it; 0 where the linker leaves it out.
    text_start: u64,
    names: usize,
    rows: usize,
}

impl<'a> Table<'a> {
    /// Reads the header.
    ///
    /// # Errors
    /// When it is not a table that can be read.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, TableError> {
        let head: &[u8; 8] = bytes.first_chunk().ok_or(TableError::Short)?;
        let [a, b, c, d, zero, zero_too, quantum, pointer] = *head;
        if !matches!(u32::from_le_bytes([a, b, c, d]), GO_1_18 | GO_1_20) || (zero, zero_too) != (0, 0) {
            return Err(TableError::Magic);
        }
        if pointer != 8 || quantum != 1 {
            return Err(TableError::PointerSize);
        }
        // nfunc, nfiles, textStart, funcnameOffset, cuOffset, filetabOffset, pctabOffset, pclnOffset.
        let word = |index: usize| {
            let bytes = bytes.get(8 + index * 8..)?.first_chunk()?;
            Some(u64::from_le_bytes(*bytes))
        };
        let size = |index| word(index).and_then(|value| usize::try_from(value).ok()).ok_or(TableError::Short);
        let (functions, names, rows) = (size(0)?, size(3)?, size(7)?);
        let text_start = word(2).ok_or(TableError::Short)?;
        let fits = functions <= MOST_FUNCTIONS && names < bytes.len() && rows < bytes.len();
        if !fits || bytes.len() - rows < functions * ROW + 4 {
            return Err(TableError::Short);
        }
        Ok(Self { bytes, functions, text_start, names, rows })
    }

    /// Address of the text as the table has it; 0 where the linker leaves it out.
    #[must_use]
    pub fn text_start(&self) -> u64 {
        self.text_start
    }

    /// The functions of these names, in their order; `None` where there is none. Takes one walk through the table.
    #[must_use]
    pub fn find<const N: usize>(&self, names: [&str; N]) -> [Option<Function>; N] {
        let mut found = [None; N];
        for index in 0..self.functions {
            let Some((start, end, name)) = self.row(index) else { continue };
            for (wanted, found) in names.iter().zip(&mut found) {
                if found.is_none() && is_string(name, wanted) && start < end {
                    *found = Some(Function { start, end });
                }
            }
        }
        found
    }

    /// Start, end and name of a function; the name goes on to the table's end.
    fn row(&self, index: usize) -> Option<(u32, u32, &'a [u8])> {
        let rows = self.bytes.get(self.rows..)?;
        let row = rows.get(index * ROW..)?;
        let (start, function, end) = (u32_at(row, 0)?, u32_at(row, 4)?, u32_at(row, 8)?);
        // `_func`: entryOff, nameOff, ...
        let name = u32_at(rows.get(usize::try_from(function).ok()?..)?, 4)?;
        let name = self.bytes.get(self.names.checked_add(usize::try_from(name).ok()?)?..)?;
        Some((start, end, name))
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Whether bytes begin with a string and the zero that ends it.
fn is_string(bytes: &[u8], wanted: &str) -> bool {
    bytes.strip_prefix(wanted.as_bytes()).is_some_and(|rest| rest.first() == Some(&0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table(functions: &[(&str, u32)], end: u32) -> Vec<u8> {
        let names: Vec<u8> = functions.iter().flat_map(|(name, _)| [name.as_bytes(), b"\0"].concat()).collect();
        let names_at = 8 + 8 * 8;
        let rows_at = names_at + names.len();
        let mut bytes = GO_1_20.to_le_bytes().to_vec();
        bytes.extend([0, 0, 1, 8]);
        let words = [functions.len(), 0, 0x40_1000, names_at, 0, 0, 0, rows_at];
        bytes.extend(words.iter().flat_map(|word| u64::try_from(*word).unwrap().to_le_bytes()));
        bytes.extend(names);
        let mut name = 0;
        let mut bodies = Vec::new();
        for (index, (text, start)) in functions.iter().enumerate() {
            let body = functions.len() * ROW + 4 + index * 8;
            bytes.extend(start.to_le_bytes());
            bytes.extend(u32::try_from(body).unwrap().to_le_bytes());
            bodies.extend(start.to_le_bytes());
            bodies.extend(u32::try_from(name).unwrap().to_le_bytes());
            name += text.len() + 1;
        }
        bytes.extend(end.to_le_bytes());
        bytes.extend(bodies);
        bytes
    }

    #[test]
    fn functions_are_found_by_their_whole_names() {
        let bytes =
            table(&[("main.Write", 0), ("crypto/tls.(*Conn).Write", 0x20), ("crypto/tls.(*Conn).Writer", 0x90)], 0xa0);
        let table = Table::parse(&bytes).unwrap();
        assert_eq!(table.text_start(), 0x40_1000);
        let found = table.find(["crypto/tls.(*Conn).Write", "Write", "crypto/tls.(*Conn).Writer"]);
        let at = |start, end| Some(Function { start, end });
        assert_eq!(found, [at(0x20, 0x90), None, at(0x90, 0xa0)]);
    }

    #[test]
    fn other_tables_are_refused() {
        let mut bytes = table(&[("a", 0)], 1);
        // The function's own record, 8 bytes at the end, is missing.
        assert_eq!(Table::parse(&bytes[..bytes.len() - 8]).unwrap().find(["a"]), [None]);
        assert_eq!(Table::parse(&bytes[..bytes.len() - 12]).err(), Some(TableError::Short));
        assert_eq!(Table::parse(&bytes[..40]).err(), Some(TableError::Short));
        bytes[7] = 4;
        assert_eq!(Table::parse(&bytes).err(), Some(TableError::PointerSize));
        bytes[0] = 0xfa;
        assert_eq!(Table::parse(&bytes).err(), Some(TableError::Magic));
    }

    proptest! {
        #[test]
        fn any_change_of_a_table_is_read_without_panic(at in 0_usize..120, value: u8, cut in 0_usize..200) {
            let mut bytes = table(&[("a", 0), ("crypto/tls.(*Conn).Write", 0x20)], 0x40);
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
            bytes.truncate(cut);
            if let Ok(table) = Table::parse(&bytes) {
                for function in table.find(["a", "crypto/tls.(*Conn).Write"]).into_iter().flatten() {
                    prop_assert!(function.start < function.end);
                }
            }
        }
    }
}
