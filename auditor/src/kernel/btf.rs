//! Reads BTF, the kernel's description of its own types (`include/uapi/linux/btf.h`): byte offsets of struct members, values of
//! enumerators, parameter counts of functions.
//!
//! Pure over a byte slice. The kernel's BTF is trusted, a file given by hand is not: every length is checked, walks are cut by
//! a budget, and nothing is allocated beyond four bytes per type.

/// What the kernel calls the magic number, in the machine's own byte order.
const MAGIC: u16 = 0xeb9f;
/// Bytes of the header this reader needs.
const HEADER: usize = 24;
/// Bytes of a type without what follows it.
const TYPE: usize = 12;
/// Typedefs, qualifiers and arrays passed through at most, one after the other.
const CHAIN_MAX: usize = 32;
/// Members looked at for one step of a path; `task_struct` has about 300.
const MEMBERS_MAX: usize = 1 << 16;
/// Structs of one name that are looked at. More than one occurs when two source files define it differently.
const CANDIDATES_MAX: usize = 8;

const KIND_INT: u8 = 1;
const KIND_ARRAY: u8 = 3;
const KIND_STRUCT: u8 = 4;
const KIND_UNION: u8 = 5;
const KIND_ENUM: u8 = 6;
const KIND_TYPEDEF: u8 = 8;
const KIND_VOLATILE: u8 = 9;
const KIND_CONST: u8 = 10;
const KIND_RESTRICT: u8 = 11;
const KIND_FUNC: u8 = 12;
const KIND_FUNC_PROTO: u8 = 13;
const KIND_TYPE_TAG: u8 = 18;
const KIND_ENUM64: u8 = 19;

/// Why BTF cannot be read, or does not hold what is asked of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BtfError {
    /// Structs of this name disagree about the member.
    #[error("BTF has several `struct {structure}` that place `{path}` differently")]
    Ambiguous {
        /// Struct.
        structure: String,
        /// Member path.
        path: String,
    },
    /// The member is a bit field: it has no byte offset.
    #[error("`{path}` of `struct {structure}` is a bit field")]
    BitField {
        /// Struct.
        structure: String,
        /// Member path.
        path: String,
    },
    /// A section or a type reaches past the end of the bytes.
    #[error("BTF is cut short or corrupt at byte {at}: {what}")]
    Corrupt {
        /// What was being read.
        what: &'static str,
        /// Where.
        at: usize,
    },
    /// No member of that name.
    #[error("`struct {structure}` has no member `{path}`")]
    NoMember {
        /// Struct.
        structure: String,
        /// Member path.
        path: String,
    },
    /// No struct of that name.
    #[error("BTF has no `struct {structure}`")]
    NoStruct {
        /// Struct.
        structure: String,
    },
    /// Does not begin with the magic number.
    #[error("these bytes are not BTF of this machine's byte order; expected /sys/kernel/btf/vmlinux or a copy of it")]
    NotBtf,
    /// A walk did not end within its budget: types that contain themselves, or a great many members.
    #[error("`{path}` of `struct {structure}` is nested too deep")]
    TooComplex {
        /// Struct.
        structure: String,
        /// Member path.
        path: String,
    },
    /// A kind of type that is not known, so that its length is not known either.
    #[error("BTF type {id} has the unknown kind {kind}: the kernel is newer than this reader")]
    UnknownKind {
        /// Number of the type.
        id: usize,
        /// Its kind.
        kind: u8,
    },
}

/// BTF whose types have been counted and indexed.
#[derive(Debug)]
pub struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Where type `i + 1` begins in `types`. Type 0 is `void` and is not stored.
    offsets: Vec<u32>,
}

/// One type: its fixed part, and where the rest begins.
#[derive(Clone, Copy, Debug)]
struct Type {
    name: u32,
    kind: u8,
    flag: bool,
    count: usize,
    /// Size in bytes, or the type it refers to: depends on the kind.
    size_or_type: u32,
    rest: usize,
}

/// A member and where it stands in the struct that was searched.
#[derive(Clone, Copy, Debug)]
struct Member {
    bits: u64,
    type_id: u32,
    bit_field: bool,
}

/// Why a walk stopped; turned into a [`BtfError`] that names the object.
enum Stop {
    Corrupt(usize),
    BitField,
    NoMember,
    TooComplex,
}

impl<'a> Btf<'a> {
    /// Checks the header and indexes the types.
    ///
    /// # Errors
    /// When the bytes are not BTF, are cut short, or hold a kind of type that is not known.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BtfError> {
        if bytes.get(..2).is_none_or(|magic| magic != MAGIC.to_ne_bytes()) {
            return Err(BtfError::NotBtf);
        }
        let corrupt = |what, at| BtfError::Corrupt { what, at };
        let header = bytes.get(..HEADER).ok_or(corrupt("header", bytes.len()))?;
        let word = |at| word_at(header, at).map(|value| value as usize).ok_or(corrupt("header", at));
        let body = word(4)?;
        if body < HEADER {
            return Err(corrupt("header length", 4));
        }
        let section = |what, offset: usize, length: usize| {
            let start = body.checked_add(offset).ok_or(corrupt(what, offset))?;
            let end = start.checked_add(length).ok_or(corrupt(what, start))?;
            bytes.get(start..end).ok_or(corrupt(what, start))
        };
        let types = section("type section", word(8)?, word(12)?)?;
        let strings = section("string section", word(16)?, word(20)?)?;
        Ok(Self { types, strings, offsets: index(types)? })
    }

    /// Number of types, without `void`.
    #[must_use]
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Holds no type at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// The structs of each name, by one pass over all types. Several of one name are kept, up to a limit.
    #[must_use]
    pub fn structures<'n>(&self, names: &[&'n str]) -> Vec<Structure<'n>> {
        let mut found: Vec<_> = names.iter().map(|name| Structure { name, ids: Vec::new() }).collect();
        for (id, ty) in self.iter().filter(|(_, ty)| ty.kind == KIND_STRUCT) {
            if let Some(structure) = found.iter_mut().find(|wanted| self.is_named(ty.name, wanted.name))
                && structure.ids.len() < CANDIDATES_MAX
            {
                structure.ids.push(id);
            }
        }
        found
    }

    /// Byte offset of a member. The path's steps are parted by dots; anonymous structs and unions, typedefs and qualifiers are
    /// looked through, and a step into an array goes into its first element.
    ///
    /// # Errors
    /// When there is no such struct or member, when it is a bit field, or when structs of the same name disagree.
    pub fn offset(&self, structure: &Structure<'_>, path: &str) -> Result<u32, BtfError> {
        let names = || (structure.name.to_owned(), path.to_owned());
        if structure.ids.is_empty() {
            return Err(BtfError::NoStruct { structure: structure.name.to_owned() });
        }
        let mut offset = None;
        let mut missing = None;
        for id in &structure.ids {
            match self.member_offset(*id, path) {
                Ok(found) if offset.is_none_or(|known| known == found) => offset = Some(found),
                Ok(_) => {
                    let (structure, path) = names();
                    return Err(BtfError::Ambiguous { structure, path });
                }
                Err(Stop::NoMember) => {}
                Err(stop) => missing = missing.or(Some(stop)),
            }
        }
        let (structure, path) = names();
        match (offset, missing) {
            (Some(offset), _) => Ok(offset),
            (None, None | Some(Stop::NoMember)) => Err(BtfError::NoMember { structure, path }),
            (None, Some(Stop::BitField)) => Err(BtfError::BitField { structure, path }),
            (None, Some(Stop::TooComplex)) => Err(BtfError::TooComplex { structure, path }),
            (None, Some(Stop::Corrupt(at))) => Err(BtfError::Corrupt { what: "type", at }),
        }
    }

    /// Value of an enumerator, whatever enumeration it is in; the first one wins. Unsigned 64-bit values above `i64::MAX` come
    /// out negative.
    #[must_use]
    pub fn enumerator(&self, name: &str) -> Option<i64> {
        self.iter().find_map(|(_, ty)| match ty.kind {
            KIND_ENUM => {
                let at = self.entry_named(ty, 8, name)?;
                let value = word_at(self.types, at + 4)?;
                Some(if ty.flag { i64::from(value.cast_signed()) } else { i64::from(value) })
            }
            KIND_ENUM64 => {
                let at = self.entry_named(ty, 12, name)?;
                let low = u64::from(word_at(self.types, at + 4)?);
                let high = u64::from(word_at(self.types, at + 8)?);
                Some((low | high << 32).cast_signed())
            }
            _ => None,
        })
    }

    /// Number of parameters of a function, variadic ones not counted.
    #[must_use]
    pub fn arity(&self, function: &str) -> Option<usize> {
        let (_, ty) = self.iter().find(|(_, ty)| ty.kind == KIND_FUNC && self.is_named(ty.name, function))?;
        let prototype = self.get(ty.size_or_type).filter(|ty| ty.kind == KIND_FUNC_PROTO)?;
        let last = prototype.count.checked_sub(1).map(|last| word_at(self.types, prototype.rest + last * 8 + 4));
        // A variadic function's list ends in a parameter of type void.
        Some(if last == Some(Some(0)) { prototype.count - 1 } else { prototype.count })
    }

    fn member_offset(&self, structure: u32, path: &str) -> Result<u32, Stop> {
        let mut bits = 0_u64;
        let mut inside = structure;
        let mut steps = path.split('.').peekable();
        while let Some(step) = steps.next() {
            let member = self.member(inside, step)?;
            bits += member.bits;
            if steps.peek().is_none() && (member.bit_field || !bits.is_multiple_of(8)) {
                return Err(Stop::BitField);
            }
            inside = member.type_id;
        }
        // u32::MAX means "absent" where the offset is used.
        u32::try_from(bits / 8).ok().filter(|offset| *offset < u32::MAX).ok_or(Stop::TooComplex)
    }

    /// The member `name` of a struct or union, through the anonymous ones inside it.
    fn member(&self, structure: u32, name: &str) -> Result<Member, Stop> {
        let mut budget = MEMBERS_MAX;
        let mut pending = vec![(self.behind(structure)?, 0_u64)];
        while let Some((id, base)) = pending.pop() {
            let ty = self.get(id).ok_or(Stop::NoMember)?;
            if !matches!(ty.kind, KIND_STRUCT | KIND_UNION) {
                continue;
            }
            budget = budget.checked_sub(ty.count + 1).ok_or(Stop::TooComplex)?;
            for at in (0..ty.count).map(|i| ty.rest + i * 12) {
                let read = |at| word_at(self.types, at).ok_or(Stop::Corrupt(at));
                let (name_at, type_id, place) = (read(at)?, read(at + 4)?, read(at + 8)?);
                // With the flag set the upper byte is the width of a bit field (0: none).
                let (bits, width) = if ty.flag { (place & 0xff_ffff, place >> 24) } else { (place, 0) };
                let bits = base + u64::from(bits);
                if self.is_named(name_at, name) {
                    let bit_field = width != 0 || self.is_narrow_integer(type_id);
                    return Ok(Member { bits, type_id, bit_field });
                }
                if self.is_named(name_at, "") {
                    pending.push((self.behind(type_id)?, bits));
                }
            }
        }
        Err(Stop::NoMember)
    }

    /// Follows typedefs, qualifiers, type tags and arrays to what they stand for.
    fn behind(&self, id: u32) -> Result<u32, Stop> {
        let mut id = id;
        for _ in 0..CHAIN_MAX {
            let Some(ty) = self.get(id) else { return Ok(id) };
            id = match ty.kind {
                KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_RESTRICT | KIND_TYPE_TAG => ty.size_or_type,
                KIND_ARRAY => word_at(self.types, ty.rest).ok_or(Stop::Corrupt(ty.rest))?,
                _ => return Ok(id),
            };
        }
        Err(Stop::TooComplex)
    }

    /// An integer that does not fill its bytes: how bit fields were written before the flag existed.
    fn is_narrow_integer(&self, id: u32) -> bool {
        let Some(ty) = self.behind(id).ok().and_then(|id| self.get(id)).filter(|ty| ty.kind == KIND_INT) else {
            return false;
        };
        let encoding = word_at(self.types, ty.rest).unwrap_or_default();
        let (offset, bits) = ((encoding >> 16) & 0xff, encoding & 0xff);
        offset != 0 || u64::from(bits) != u64::from(ty.size_or_type) * 8
    }

    /// Where the entry `name` of an enumeration begins.
    fn entry_named(&self, ty: Type, length: usize, name: &str) -> Option<usize> {
        (0..ty.count)
            .map(|i| ty.rest + i * length)
            .find(|at| word_at(self.types, *at).is_some_and(|entry| self.is_named(entry, name)))
    }

    fn iter(&self) -> impl Iterator<Item = (u32, Type)> {
        (1_u32..).zip(&self.offsets).filter_map(|(id, at)| Some((id, type_at(self.types, *at as usize)?)))
    }

    fn get(&self, id: u32) -> Option<Type> {
        let at = self.offsets.get((id as usize).checked_sub(1)?)?;
        type_at(self.types, *at as usize)
    }

    fn is_named(&self, at: u32, name: &str) -> bool {
        let Some(rest) = self.strings.get(at as usize..) else { return false };
        rest.strip_prefix(name.as_bytes()).and_then(|rest| rest.first()) == Some(&0)
    }
}

/// The structs of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Structure<'n> {
    name: &'n str,
    ids: Vec<u32>,
}

/// Where each type begins.
fn index(types: &[u8]) -> Result<Vec<u32>, BtfError> {
    let mut offsets = Vec::with_capacity(types.len() / 24);
    let mut at = 0;
    while at < types.len() {
        let corrupt = BtfError::Corrupt { what: "type", at };
        let ty = type_at(types, at).ok_or(corrupt.clone())?;
        let rest = rest_length(ty).ok_or(BtfError::UnknownKind { id: offsets.len() + 1, kind: ty.kind })?;
        offsets.push(u32::try_from(at).map_err(|_| corrupt.clone())?);
        at = ty.rest + rest;
        if at > types.len() {
            return Err(corrupt);
        }
    }
    Ok(offsets)
}

/// Bytes that follow a type's fixed part.
fn rest_length(ty: Type) -> Option<usize> {
    match ty.kind {
        // Pointers, forward declarations, typedefs, qualifiers, functions, floats, type tags.
        2 | 7..=12 | 16 | 18 => Some(0),
        // Integers, variables, declaration tags.
        1 | 14 | 17 => Some(4),
        3 => Some(12),
        // Enumerations, prototypes.
        6 | 13 => Some(ty.count * 8),
        // Structs, unions, data sections, 64-bit enumerations.
        4 | 5 | 15 | 19 => Some(ty.count * 12),
        _ => None,
    }
}

fn type_at(types: &[u8], at: usize) -> Option<Type> {
    let fixed = types.get(at..)?.first_chunk::<TYPE>()?;
    let info = word_at(fixed, 4)?;
    Some(Type {
        name: word_at(fixed, 0)?,
        kind: (info >> 24 & 0x1f) as u8,
        flag: info >> 31 == 1,
        count: (info & 0xffff) as usize,
        size_or_type: word_at(fixed, 8)?,
        rest: at + TYPE,
    })
}

fn word_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes)
}
