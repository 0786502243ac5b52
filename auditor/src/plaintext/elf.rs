//! Which TLS library an ELF file holds, and where its functions are. Files are what processes of other people mapped: all reading
//! is bounded, and nothing in them is believed that cannot be checked.

use std::{fs::File, io};

use auditor_abi::{layout::ABSENT, plaintext as abi};
use object::{
    Endianness, Object as _, ObjectSection as _, ObjectSegment as _, ObjectSymbol as _, SymbolSection,
    read::{ReadCache, elf::ElfFile64},
};

use super::{code, gopclntab};
use crate::kernel::plaintext::Site;

/// No section larger than this is read, bytes.
const LARGEST_SECTION: u64 = 128 << 20;
/// Bytes of a getter.
const LONGEST_GETTER: u64 = 512;
/// Bytes of a Go function.
const LONGEST_FUNCTION: u64 = 64 << 10;
/// Bytes of read-only data that are searched for the marks of libraries without symbols.
const SEARCHED: u64 = 32 << 20;

/// A TLS library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Library {
    /// OpenSSL and what has its functions, a library of its own or in an executable.
    OpenSsl,
    /// BoringSSL and AWS-LC.
    BoringSsl,
    /// GnuTLS.
    GnuTls,
    /// Go's `crypto/tls`.
    Go,
    /// rustls.
    Rustls,
    /// Mozilla's NSS.
    Nss,
    /// Java's JSSE: the code is made at run time.
    Jsse,
}

/// A TLS library in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The library.
    pub library: Library,
    /// Where it can be attached to; or why it cannot.
    pub plan: Result<Plan, &'static str>,
}

/// Where the probes of a file go, and what the programs must know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The probes.
    pub sites: Vec<Site>,
    /// What the programs must know.
    pub description: abi::Library,
}

type Elf<'a> = ElfFile64<'a, Endianness, &'a ReadCache<File>>;

impl Library {
    /// The word that metrics carry.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OpenSsl => "openssl",
            Self::BoringSsl => "boringssl",
            Self::GnuTls => "gnutls",
            Self::Go => "go",
            Self::Rustls => "rustls",
            Self::Nss => "nss",
            Self::Jsse => "jsse",
        }
    }
}

/// What a file holds; `None` when no TLS library is to be seen in it. `name` is the last part of its path.
///
/// # Errors
/// When it cannot be read.
pub fn inspect(file: File, name: &str) -> io::Result<Option<Found>> {
    let by_name = by_name(name);
    let cache = ReadCache::new(file);
    let Ok(elf) = Elf::parse(&cache) else { return Ok(by_name) };
    if elf.architecture() != object::Architecture::X86_64 {
        return Ok(by_name.map(|found| Found { plan: Err("it is not for x86_64"), ..found }));
    }
    if let Some(table) = section(&elf, &[".gopclntab", ".data.rel.ro.gopclntab"]) {
        return Ok(go(&elf, table));
    }
    Ok(library(&elf).or(by_name).or_else(|| by_marks(&elf)))
}

/// Libraries that are told by the file's name and cannot be attached to.
fn by_name(name: &str) -> Option<Found> {
    let uncovered = |library, why| Some(Found { library, plan: Err(why) });
    match name {
        "libjvm.so" => uncovered(Library::Jsse, "its code is made at run time"),
        _ if name.starts_with("libssl3.so") || name.starts_with("libnss3.so") => {
            uncovered(Library::Nss, "its data passes through functions that other files use as well")
        }
        _ => None,
    }
}

/// Libraries that have left no symbols: by the paths of their sources in what they say when they fail.
fn by_marks(elf: &Elf<'_>) -> Option<Found> {
    let data = elf.section_by_name(".rodata").filter(|section| section.size() <= SEARCHED)?.data().ok()?;
    let holds = |mark: &str| memchr::memmem::find(data, mark.as_bytes()).is_some();
    let library = if holds("/rustls-0.") || holds("rustls/src/") {
        Library::Rustls
    } else if holds("boringssl/src/ssl/") || holds("boringssl/ssl/") {
        Library::BoringSsl
    } else if holds("ssl/ssl_lib.c") {
        Library::OpenSsl
    } else {
        return None;
    };
    Some(Found { library, plan: Err("it is linked in without symbols") })
}

/// A symbol's address and size.
#[derive(Clone, Copy)]
struct Symbol {
    address: u64,
    size: u64,
}

/// The functions that are looked for in C libraries; [`C_SITES`] and the getters name them.
const WANTED: [&str; 21] = [
    "SSL_write",
    "SSL_write_ex",
    "SSL_read",
    "SSL_read_ex",
    "SSL_free",
    "SSL_get_client_random",
    "SSL_is_server",
    "SSL_get_verify_result",
    "SSL_get_session",
    "SSL_get0_peer_certificate",
    "SSL_get_peer_certificate",
    "SSL_SESSION_get0_peer",
    "BORINGSSL_self_test",
    "SSL_CTX_set_reverify_on_resume",
    "gnutls_record_send",
    "gnutls_record_send2",
    "gnutls_record_recv",
    "gnutls_handshake",
    "gnutls_certificate_verify_peers",
    "gnutls_deinit",
    "gnutls_session_get_random",
];

/// Functions and the kind of call they are.
const C_SITES: [(&str, u32); 9] = [
    ("SSL_write", abi::CALL_WRITE),
    ("SSL_write_ex", abi::CALL_WRITE_EX),
    ("SSL_read", abi::CALL_READ),
    ("SSL_read_ex", abi::CALL_READ_EX),
    ("gnutls_record_send", abi::CALL_WRITE),
    ("gnutls_record_send2", abi::CALL_WRITE),
    ("gnutls_record_recv", abi::CALL_READ),
    ("gnutls_handshake", abi::CALL_HANDSHAKE),
    // The others of its kind call it.
    ("gnutls_certificate_verify_peers", abi::CALL_PEERS),
];

/// OpenSSL, BoringSSL or GnuTLS, exported or with local symbols.
fn library(elf: &Elf<'_>) -> Option<Found> {
    let mut symbols = [None; WANTED.len()];
    collect(elf.dynamic_symbols(), &mut symbols);
    if !is_library(&symbols) && elf.section_by_name(".symtab").is_some_and(|table| table.size() <= LARGEST_SECTION) {
        collect(elf.symbols(), &mut symbols);
    }
    if !is_library(&symbols) {
        return None;
    }
    let has = |name| symbol(&symbols, name).is_some();
    let library = if has("gnutls_record_send") {
        Library::GnuTls
    } else if has("BORINGSSL_self_test") || has("SSL_CTX_set_reverify_on_resume") {
        // The first is in its libcrypto; a libssl by itself has the second, which OpenSSL has not.
        Library::BoringSsl
    } else {
        Library::OpenSsl
    };
    Some(Found { library, plan: c_plan(elf, &symbols, library) })
}

fn is_library(symbols: &[Option<Symbol>; WANTED.len()]) -> bool {
    let has = |name| symbol(symbols, name).is_some();
    (has("SSL_write") && has("SSL_read")) || (has("gnutls_record_send") && has("gnutls_record_recv"))
}

fn collect<'a>(
    symbols: impl Iterator<Item = object::read::elf::ElfSymbol64<'a, 'a, Endianness, &'a ReadCache<File>>>,
    found: &mut [Option<Symbol>; WANTED.len()],
) {
    for symbol in symbols {
        if symbol.kind() != object::SymbolKind::Text || !matches!(symbol.section(), SymbolSection::Section(_)) {
            continue;
        }
        let Ok(name) = symbol.name() else { continue };
        if let Some(at) = WANTED.iter().position(|wanted| *wanted == name) {
            found[at] = Some(Symbol { address: symbol.address(), size: symbol.size() });
        }
    }
}

fn symbol(symbols: &[Option<Symbol>; WANTED.len()], name: &str) -> Option<Symbol> {
    WANTED.iter().position(|wanted| *wanted == name).and_then(|at| symbols[at])
}

fn c_plan(elf: &Elf<'_>, symbols: &[Option<Symbol>; WANTED.len()], library: Library) -> Result<Plan, &'static str> {
    let getter = |name| {
        let getter = symbol(symbols, name)?;
        code_at(elf, getter.address, getter.size.clamp(1, LONGEST_GETTER))
    };
    let field = |name| getter(name).and_then(code::argument_value);
    // That of GnuTLS gives the client's and the server's.
    let (random, address, free): (_, fn(&[u8]) -> _, _) = match library {
        Library::GnuTls => ("gnutls_session_get_random", code::first_argument_address, "gnutls_deinit"),
        _ => ("SSL_get_client_random", code::argument_address, "SSL_free"),
    };
    let place = getter(random).and_then(address).ok_or_else(|| no_random(symbol(symbols, random).is_some()))?;
    let server = getter("SSL_is_server").and_then(code::argument_flag);
    // Two functions must agree: a pointer is followed by it. The second has another name before OpenSSL 3.0.
    let peer = field("SSL_get0_peer_certificate").or_else(|| field("SSL_get_peer_certificate"));
    let resumable = field("SSL_get_session").filter(|resumable| Some(*resumable) == peer);
    // What BoringSSL keeps of a certificate cannot be told from a getter alone: the wire's evidence stands.
    let proven = |field: Option<u32>| field.filter(|_| library != Library::BoringSsl).unwrap_or(ABSENT);
    let description = abi::Library {
        random: place.field,
        state: place.pointer.unwrap_or(ABSENT),
        server: server.map_or(ABSENT, |flag| flag.field),
        server_mask: server.map_or(0, |flag| flag.mask),
        verify: proven(field("SSL_get_verify_result")),
        resumable: proven(resumable),
        peer: proven(field("SSL_SESSION_get0_peer")),
        padding: 0,
        tcp_close: [0; 2],
        functions: [0; 6],
    };
    let offset = |name| symbol(symbols, name).and_then(|symbol| file_offset(elf, symbol.address));
    let mut sites = Vec::new();
    for (name, call) in C_SITES {
        // It calls the newer one.
        if name == "gnutls_record_send" && offset("gnutls_record_send2").is_some() {
            continue;
        }
        // The return first: a call whose entry is seen has its return seen.
        for program in [abi::PROGRAM_RETURN, abi::PROGRAM_ENTER] {
            sites.extend(offset(name).map(|offset| Site { program, offset, call }));
        }
    }
    sites.extend(offset(free).map(|offset| Site { program: abi::PROGRAM_FREE, offset, call: 0 }));
    Ok(Plan { sites, description })
}

/// Why a session's random is not to be seen; `getter`: there is a function that returns it.
fn no_random(getter: bool) -> &'static str {
    if getter {
        "its code does not show where a session keeps its random"
    } else {
        "the function that returns a session's random was left out of it"
    }
}

/// What is looked for in a Go program, in the order of [`gopclntab::Table::find`]'s answer.
const GO_FUNCTIONS: [&str; 7] = [
    "crypto/tls.(*Conn).Write",
    "crypto/tls.(*Conn).Read",
    "crypto/tls.(*Conn).processCertsFromClient",
    "crypto/tls.(*Conn).Close",
    "net.(*TCPConn).Close",
    "net.(*conn).Close",
    "crypto/x509.(*Certificate).Verify",
];

fn go(elf: &Elf<'_>, table: &[u8]) -> Option<Found> {
    let plan = match gopclntab::Table::parse(table) {
        Ok(table) => go_plan(elf, &table)?,
        Err(gopclntab::TableError::Magic) => Err("it is of Go 1.17 or older, or of a kind that is not known"),
        Err(_) => Err("its table of functions cannot be read"),
    };
    Some(Found { library: Library::Go, plan })
}

/// `None` when the program has no TLS.
fn go_plan(elf: &Elf<'_>, table: &gopclntab::Table<'_>) -> Option<Result<Plan, &'static str>> {
    let [write, read, verify, close, tcp_close, conn_close, chain] = table.find(GO_FUNCTIONS);
    let (write, read) = (write?, read?);
    let starts = [Some(table.text_start()).filter(|start| *start != 0), runtime_text(elf), text(elf)];
    let behind_check = |address: u64| Some(address.wrapping_add(code::behind_stack_check(code_at(elf, address, 32)?)?));
    let is_start = |start: &u64| {
        [write, read].iter().all(|function| behind_check(start.wrapping_add(function.start.into())).is_some())
    };
    let Some(start) = starts.into_iter().flatten().find(is_start) else {
        return Some(Err("where its text begins is not to be seen"));
    };
    let address = |function: gopclntab::Function| start.wrapping_add(function.start.into());
    // A function that checks its stack may begin several times in one call. One that does not begins once.
    let probed = |function| behind_check(address(function)).unwrap_or(address(function));
    let distance = |address: Option<u64>| address.map_or(0, |address| address.wrapping_sub(probed(write)));
    let mut functions = [0; 6];
    functions[abi::CALL_READ as usize] = distance(Some(probed(read)));
    functions[abi::CALL_VERIFY as usize] = distance(verify.map(probed));
    if tcp_close.is_none() && conn_close.is_none() {
        return Some(Err("it has no TCP sockets"));
    }
    // A distance of zero is that of no function.
    let description = abi::Library {
        random: ABSENT,
        state: ABSENT,
        server: ABSENT,
        server_mask: 0,
        verify: ABSENT,
        resumable: ABSENT,
        peer: ABSENT,
        padding: 0,
        tcp_close: [tcp_close.or(conn_close), conn_close.or(tcp_close)].map(|close| distance(close.map(address))),
        functions,
    };
    let mut sites = Vec::new();
    for (function, call) in [(Some(read), abi::CALL_READ), (verify, abi::CALL_VERIFY)] {
        let Some(function) = function else { continue };
        match go_call(elf, address(function), probed(function), function, call) {
            Ok(more) => sites.extend(more),
            Err(why) => return Some(Err(why)),
        }
    }
    let entry =
        |program, function, call| file_offset(elf, probed(function)).map(|offset| Site { program, offset, call });
    sites.extend(entry(abi::PROGRAM_GO_WRITE, write, abi::CALL_WRITE));
    sites.extend(close.and_then(|close| entry(abi::PROGRAM_GO_CLOSE, close, 0)));
    sites.extend(chain.and_then(|chain| entry(abi::PROGRAM_GO_ENTER, chain, abi::CALL_CHAIN)));
    Some(Ok(Plan { sites, description }))
}

/// The probes of a function at `address` whose result counts: its returns, then its entry at `probed`.
fn go_call(
    elf: &Elf<'_>,
    address: u64,
    probed: u64,
    function: gopclntab::Function,
    call: u32,
) -> Result<Vec<Site>, &'static str> {
    let size = u64::from(function.end - function.start);
    let code = Some(size).filter(|size| *size <= LONGEST_FUNCTION).and_then(|size| code_at(elf, address, size));
    let returns = code.and_then(code::returns).ok_or("the returns of its functions are not to be seen")?;
    let sites = returns.into_iter().map(|at| (abi::PROGRAM_GO_RETURN, address.wrapping_add(at)));
    let sites = sites.chain([(abi::PROGRAM_GO_ENTER, probed)]);
    sites
        .map(|(program, address)| file_offset(elf, address).map(|offset| Site { program, offset, call }))
        .collect::<Option<_>>()
        .ok_or("its code is not in the file")
}

/// Address of `runtime.text`, where Go's code begins: behind C's when the two are linked together.
fn runtime_text(elf: &Elf<'_>) -> Option<u64> {
    elf.section_by_name(".symtab").filter(|table| table.size() <= LARGEST_SECTION)?;
    elf.symbols().find(|symbol| symbol.name() == Ok("runtime.text")).map(|symbol| symbol.address())
}

fn text(elf: &Elf<'_>) -> Option<u64> {
    elf.section_by_name(".text").map(|section| section.address())
}

fn section<'a>(elf: &Elf<'a>, names: &[&str]) -> Option<&'a [u8]> {
    let section = names.iter().find_map(|name| elf.section_by_name(name))?;
    (section.size() <= LARGEST_SECTION).then(|| section.data().ok()).flatten()
}

/// Up to `length` bytes of code at an address.
fn code_at<'a>(elf: &Elf<'a>, address: u64, length: u64) -> Option<&'a [u8]> {
    let segment = elf.segments().find(|segment| is_inside(segment.address(), segment.size(), address))?;
    let left = segment.address().checked_add(segment.size())? - address;
    segment.data_range(address, length.min(left)).ok()?
}

/// The offset in the file of an address that is executed.
fn file_offset(elf: &Elf<'_>, address: u64) -> Option<u64> {
    let segment = elf.segments().find(|segment| is_inside(segment.address(), segment.size(), address))?;
    let (offset, size) = segment.file_range();
    let inside = address - segment.address();
    (inside < size).then(|| offset.checked_add(inside)).flatten()
}

fn is_inside(start: u64, size: u64, address: u64) -> bool {
    address.checked_sub(start).is_some_and(|inside| inside < size)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn of(path: &Path) -> Option<Found> {
        inspect(File::open(path).unwrap(), path.file_name().unwrap().to_str().unwrap()).unwrap()
    }

    #[test]
    fn what_is_no_elf_file_holds_nothing() {
        assert_eq!(of(Path::new("/dev/null")), None);
        assert_eq!(of(&Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")), None);
    }

    #[test]
    fn names_tell_libraries_that_cannot_be_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (name, library) in
            [("libjvm.so", Library::Jsse), ("libssl3.so", Library::Nss), ("libnss3.so", Library::Nss)]
        {
            let found = inspect(file.reopen().unwrap(), name).unwrap().unwrap();
            assert_eq!(found.library, library);
            assert!(found.plan.is_err());
        }
        assert_eq!(inspect(file.reopen().unwrap(), "libssl.so.3").unwrap(), None, "no ELF file");
    }
}
