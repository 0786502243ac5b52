//! Tests of the BTF reader and of layouts, on BTF written here and on the running kernel's.

use std::{collections::BTreeMap, path::Path};

use auditor_abi::layout::{ABSENT, FIELDS, ITERATOR_FIELDS};
use proptest::prelude::*;

use super::{
    btf::{Btf, BtfError},
    layout::{self, KERNEL_BTF, LayoutError, Loss},
};

const STRUCT: u32 = 4;
const UNION: u32 = 5;
const FLAG: u32 = 1 << 31;

/// Writes BTF, one type after the other; returns the number of each.
#[derive(Default)]
struct Writer {
    types: Vec<u32>,
    strings: Vec<u8>,
    count: u32,
}

impl Writer {
    fn new() -> Self {
        Self { strings: vec![0], ..Self::default() }
    }

    fn string(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let at = u32::try_from(self.strings.len()).unwrap();
        self.strings.extend_from_slice(text.as_bytes());
        self.strings.push(0);
        at
    }

    fn raw(&mut self, name: &str, info: u32, size_or_type: u32, rest: &[u32]) -> u32 {
        let name = self.string(name);
        self.types.extend([name, info, size_or_type]);
        self.types.extend(rest);
        self.count += 1;
        self.count
    }

    fn int(&mut self, size: u32) -> u32 {
        self.raw("int", 1 << 24, size, &[size * 8])
    }

    /// `kind` is `STRUCT` or `UNION`, with `FLAG` or not; members are name, type and offset in bits.
    fn composite(&mut self, kind: u32, name: &str, members: &[(&str, u32, u32)]) -> u32 {
        let info = kind << 24 | kind & FLAG | u32::try_from(members.len()).unwrap();
        let rest: Vec<_> = members.iter().flat_map(|(name, ty, at)| [self.string(name), *ty, *at]).collect();
        self.raw(name, info, 64, &rest)
    }

    fn finish(self) -> Vec<u8> {
        let types = u32::try_from(self.types.len() * 4).unwrap();
        let strings = u32::try_from(self.strings.len()).unwrap();
        let mut out = Vec::new();
        out.extend(0xeb9f_u16.to_ne_bytes());
        out.extend([1, 0]);
        for word in [24, 0, types, types, strings] {
            out.extend(word.to_ne_bytes());
        }
        out.extend(self.types.iter().flat_map(|word| word.to_ne_bytes()));
        out.extend(self.strings);
        out
    }
}

fn offset(bytes: &[u8], structure: &str, path: &str) -> Result<u32, BtfError> {
    let btf = Btf::parse(bytes)?;
    btf.offset(&btf.structures(&[structure])[0], path)
}

/// `struct sock { int pad; const box_t common; }`, `box_t` a typedef of a struct with an anonymous union, an array and bits.
fn sample() -> Vec<u8> {
    let mut w = Writer::new();
    let int = w.int(4);
    let array = w.raw("", 3 << 24, 0, &[int, int, 4]);
    let pair = w.composite(UNION, "", &[("first", int, 0), ("second", int, 32)]);
    let inner =
        w.composite(STRUCT | FLAG, "inner", &[("", pair, 64), ("list", array, 128), ("flag", int, 1 << 24 | 256)]);
    let typedef = w.raw("box_t", 8 << 24, inner, &[]);
    let constant = w.raw("", 10 << 24, typedef, &[]);
    w.composite(STRUCT, "sock", &[("pad", int, 0), ("common", constant, 32)]);
    w.raw("iter_type", 6 << 24 | 2, 4, &[0, 0, 0, 7]);
    let names = [w.string("ITER_UBUF"), w.string("ITER_NEGATIVE")];
    w.raw("signed", 6 << 24 | 2 | FLAG, 4, &[names[0], 3, names[1], u32::MAX]);
    let wide = w.string("WIDE");
    w.raw("wide", 19 << 24 | 1, 8, &[wide, 5, 1]);
    let prototype = w.raw("", 13 << 24 | 3, int, &[0, int, 0, int, 0, 0]);
    w.raw("variadic", 12 << 24, prototype, &[]);
    let plain = w.raw("", 13 << 24 | 2, int, &[0, int, 0, int]);
    w.raw("plain", 12 << 24, plain, &[]);
    w.finish()
}

/// BTF with every member the programs want, each in a struct of its own nesting, and nothing else.
fn complete(leave_out: &str) -> Vec<u8> {
    let mut w = Writer::new();
    let int = w.int(4);
    let mut tree: BTreeMap<&str, BTreeMap<&str, Vec<&str>>> = BTreeMap::new();
    for field in FIELDS.iter().chain(&ITERATOR_FIELDS).filter(|field| field.global != leave_out) {
        let (first, rest) = field.path.split_once('.').unwrap_or((field.path, ""));
        let inner = tree.entry(field.structure).or_default().entry(first).or_default();
        inner.extend((!rest.is_empty()).then_some(rest));
    }
    for (structure, members) in tree {
        let mut list = Vec::new();
        for (i, (name, inner)) in (0_u32..).zip(&members) {
            let ty = if inner.is_empty() { int } else { nest(&mut w, int, inner) };
            list.push((*name, ty, i * 1024));
        }
        w.composite(STRUCT, structure, &list);
    }
    w.finish()
}

fn nest(w: &mut Writer, int: u32, paths: &[&str]) -> u32 {
    let mut list = Vec::new();
    for (i, path) in (0_u32..).zip(paths) {
        let (first, rest) = path.split_once('.').unwrap_or((path, ""));
        let ty = if rest.is_empty() { int } else { nest(w, int, &[rest]) };
        list.push((first, ty, i * 32));
    }
    w.composite(STRUCT, "", &list)
}

#[test]
fn members_are_found_through_typedefs_qualifiers_and_anonymous_unions() {
    let bytes = sample();
    let cases = [("pad", 0), ("common", 4), ("common.first", 12), ("common.second", 16), ("common.list", 20)];
    for (path, expected) in cases {
        assert_eq!(offset(&bytes, "sock", path), Ok(expected), "{path}");
    }
}

#[test]
fn a_step_into_an_array_goes_into_its_first_element() {
    let mut w = Writer::new();
    let int = w.int(4);
    let entry = w.composite(STRUCT, "entry", &[("key", int, 0), ("value", int, 32)]);
    let array = w.raw("", 3 << 24, 0, &[entry, int, 8]);
    w.composite(STRUCT, "table", &[("size", int, 0), ("entries", array, 64)]);
    assert_eq!(offset(&w.finish(), "table", "entries.value"), Ok(12));
}

#[test]
fn bit_fields_are_refused_in_both_encodings() {
    let error = offset(&sample(), "sock", "common.flag").unwrap_err();
    assert!(matches!(error, BtfError::BitField { .. }), "{error}");

    let mut w = Writer::new();
    let narrow = w.raw("int", 1 << 24, 4, &[3]);
    w.composite(STRUCT, "old", &[("bits", narrow, 32)]);
    let error = offset(&w.finish(), "old", "bits").unwrap_err();
    assert!(matches!(error, BtfError::BitField { .. }), "{error}");
}

#[test]
fn what_is_not_there_is_named() {
    let bytes = sample();
    let missing = offset(&bytes, "sock", "common.third").unwrap_err();
    assert_eq!(missing.to_string(), "`struct sock` has no member `common.third`");
    // The path goes on below an integer.
    assert!(matches!(offset(&bytes, "sock", "pad.deeper"), Err(BtfError::NoMember { .. })));
    assert_eq!(offset(&bytes, "socket", "file").unwrap_err().to_string(), "BTF has no `struct socket`");
}

#[test]
fn structs_of_one_name_must_agree() {
    let build = |second: u32| {
        let mut w = Writer::new();
        let int = w.int(4);
        w.composite(STRUCT, "twice", &[("x", int, 64)]);
        w.composite(STRUCT, "twice", &[("x", int, second)]);
        w.composite(STRUCT, "twice", &[("y", int, 0)]);
        w.finish()
    };
    assert_eq!(offset(&build(64), "twice", "x"), Ok(8));
    assert!(matches!(offset(&build(96), "twice", "x"), Err(BtfError::Ambiguous { .. })));
}

#[test]
fn enumerators_and_arities() {
    let bytes = sample();
    let btf = Btf::parse(&bytes).unwrap();
    assert_eq!(btf.enumerator("ITER_UBUF"), Some(3));
    assert_eq!(btf.enumerator("ITER_NEGATIVE"), Some(-1));
    assert_eq!(btf.enumerator("WIDE"), Some(5 | 1 << 32));
    assert_eq!(btf.enumerator("ITER_KVEC"), None);
    assert_eq!(btf.arity("plain"), Some(2));
    assert_eq!(btf.arity("variadic"), Some(2));
    assert_eq!(btf.arity("absent"), None);
}

#[test]
fn types_that_contain_themselves_end() {
    let mut w = Writer::new();
    // Type 1 is a struct whose anonymous members are itself, twice; type 2 is a typedef of itself.
    w.composite(STRUCT, "loop", &[("", 1, 0), ("", 1, 0)]);
    w.raw("t", 8 << 24, 2, &[]);
    w.composite(STRUCT, "chain", &[("", 2, 0)]);
    let bytes = w.finish();
    assert!(matches!(offset(&bytes, "loop", "x"), Err(BtfError::TooComplex { .. })));
    assert!(matches!(offset(&bytes, "chain", "x"), Err(BtfError::TooComplex { .. })));
}

#[test]
fn nesting_beyond_the_offset_range_is_refused() {
    let mut w = Writer::new();
    let int = w.int(4);
    w.composite(STRUCT, "far", &[("x", int, u32::MAX - 7), ("far", 2, u32::MAX - 7)]);
    let path = ["far"; 20].join(".") + ".x";
    assert!(matches!(offset(&w.finish(), "far", &path), Err(BtfError::TooComplex { .. })));
}

#[test]
fn unusable_bytes_are_errors() {
    let good = sample();
    assert_eq!(Btf::parse(b"").unwrap_err(), BtfError::NotBtf);
    assert_eq!(Btf::parse(b"\x7fELF").unwrap_err(), BtfError::NotBtf);
    for length in 2..good.len() {
        assert!(matches!(Btf::parse(&good[..length]), Err(BtfError::Corrupt { .. })), "{length} bytes");
    }
    let mut w = Writer::new();
    w.raw("new", 31 << 24, 0, &[]);
    assert_eq!(Btf::parse(&w.finish()).unwrap_err(), BtfError::UnknownKind { id: 1, kind: 31 });
}

#[test]
fn a_complete_layout_misses_nothing() {
    let bytes = complete("");
    let layout = layout::resolve(&Btf::parse(&bytes).unwrap());
    assert_eq!(layout.missing(), []);
    assert_eq!(layout.losses(), []);
    let names: Vec<_> = layout.offsets().iter().map(|(name, _)| *name).collect();
    let expected: Vec<_> = FIELDS.iter().chain(&ITERATOR_FIELDS).map(|field| field.global).collect();
    assert_eq!(names, expected);
    assert!(layout.offsets().iter().all(|(_, offset)| *offset != ABSENT));
}

#[test]
fn each_absent_member_says_what_is_lost() {
    let cases = [
        ("OFF_SK_LOCK_OWNED", Loss::Process),
        ("OFF_TASK_COMM", Loss::Process),
        ("OFF_SK_NET", Loss::NetworkNamespace),
        ("OFF_NET_INUM", Loss::NetworkNamespace),
        ("OFF_SK_V6_PEER", Loss::Endpoints),
        ("OFF_FILE_PRIVATE", Loss::ExistingSockets),
    ];
    for (global, loss) in cases {
        let bytes = complete(global);
        let layout = layout::resolve(&Btf::parse(&bytes).unwrap());
        let absent: Vec<_> = layout.offsets().iter().filter(|(_, at)| *at == ABSENT).map(|(name, _)| *name).collect();
        assert_eq!(absent, [global]);
        assert_eq!(layout.losses(), [loss], "{global}");
        assert!(loss.consequence().ends_with('.'));
    }
}

#[test]
fn no_btf_loses_everything() {
    let layout = layout::Layout::absent();
    assert!(layout.offsets().iter().all(|(_, offset)| *offset == ABSENT));
    let losses: Vec<_> = layout.losses().into_iter().map(Loss::as_str).collect();
    assert_eq!(losses, ["endpoints", "existing-sockets", "network-namespace", "process"]);
}

#[test]
fn files_that_are_not_btf_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let absent = directory.path().join("vmlinux");
    assert!(matches!(layout::from_file(&absent), Err(LayoutError::File { .. })));
    assert!(matches!(layout::from_file(directory.path()), Err(LayoutError::File { .. })));
    std::fs::write(&absent, "not BTF").unwrap();
    let error = layout::from_file(&absent).unwrap_err().to_string();
    assert!(error.starts_with(&absent.display().to_string()), "{error}");
    // A sparse file larger than any BTF is not read to its end.
    std::fs::File::create(&absent).unwrap().set_len(10 << 30).unwrap();
    assert!(matches!(layout::from_file(&absent), Err(LayoutError::TooLarge { .. })));
}

/// The running kernel's BTF, where it has one, must hold every member.
#[test]
fn the_running_kernel_is_resolved_or_says_why() {
    match layout::from_file(Path::new(KERNEL_BTF)) {
        Ok(layout) => {
            assert_eq!(layout.missing(), []);
            let offset = |name| layout.offsets().iter().find(|(global, _)| *global == name).unwrap().1;
            // `struct sock_common` begins with the addresses (include/net/sock.h), the same since 3.9.
            assert_eq!((offset("OFF_SK_V4_PEER"), offset("OFF_SK_V4_LOCAL")), (0, 4));
            assert_eq!((offset("OFF_SK_DPORT"), offset("OFF_SK_NUM"), offset("OFF_SK_FAMILY")), (12, 14, 16));
        }
        Err(error) => assert!(!Path::new(KERNEL_BTF).exists(), "{error}"),
    }
}

/// One answer of the kernel's BTF that differs between versions, to see that the reader follows the kernel at hand.
#[test]
fn the_running_kernel_has_functions_and_enumerators() {
    let bytes = match std::fs::read(KERNEL_BTF) {
        Ok(bytes) => bytes,
        Err(error) => return assert!(!Path::new(KERNEL_BTF).exists(), "{error}"),
    };
    let btf = Btf::parse(&bytes).unwrap();
    assert_eq!(btf.arity("tcp_sendmsg"), Some(3));
    assert!(btf.arity("tcp_recvmsg").is_some_and(|arity| (4..=6).contains(&arity)));
    assert_eq!(btf.enumerator("BPF_PROG_TYPE_CGROUP_SKB"), Some(8));
    assert!(btf.len() > 1000);
}

/// The fuzz target's committed seeds are valid BTF, so that the fuzzer starts deep inside. `AUDITOR_WRITE_SEEDS=1` writes them
/// anew with the writer here.
#[test]
fn the_fuzz_seeds_are_btf() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/btf");
    for (name, bytes) in [("sample", sample()), ("complete", complete(""))] {
        let path = directory.join(name);
        if std::env::var_os("AUDITOR_WRITE_SEEDS").is_some() {
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::write(&path, &bytes).unwrap();
        }
        let seed = std::fs::read(&path).unwrap();
        assert!(!Btf::parse(&seed).unwrap().is_empty(), "{name} holds no type");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn damaged_btf_never_panics(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12)) {
        let mut bytes = complete("");
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(btf) = Btf::parse(&bytes) {
            let layout = layout::resolve(&btf);
            prop_assert_eq!(layout.offsets().len(), FIELDS.len() + ITERATOR_FIELDS.len());
            prop_assert_eq!(btf.arity("x"), None);
            prop_assert_eq!(btf.enumerator("x"), None);
        }
    }

    #[test]
    fn any_bytes_after_the_magic_never_panic(tail in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut bytes = 0xeb9f_u16.to_ne_bytes().to_vec();
        bytes.extend(tail);
        if let Ok(btf) = Btf::parse(&bytes) {
            prop_assert!(layout::resolve(&btf).offsets().len() > FIELDS.len());
        }
    }
}
