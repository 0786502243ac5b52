//! Single values as people write them: durations, sizes, networks, names. The same functions serve the file, the flags and
//! the environment, so that one rule and one message hold wherever a value comes from.

use std::{net::SocketAddr, time::Duration};

use ipnet::IpNet;

use crate::{
    certificates::{Bundle, is_trust_domain},
    kernel::plan::Choice,
    policy::Template,
};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;

/// Ring sizes that make sense: less cannot hold a burst, more is memory nobody reads in time.
const RING_BYTES: std::ops::RangeInclusive<u64> = 256 * KIB..=GIB;
/// Head budgets: 256 bytes is the smallest record payload, 16 KiB the largest.
const HEAD_BYTES: std::ops::RangeInclusive<u64> = 256..=auditor_abi::record::PAYLOAD_MAX as u64;
const COUNT: std::ops::RangeInclusive<u64> = 1..=100_000_000;
const BUFFERED_BYTES: std::ops::RangeInclusive<u64> = MIB..=64 * GIB;
const POLL_INTERVAL: std::ops::RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(1);
const DAY: i64 = 24 * 3600;
const TEN_YEARS: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A span of time such as `5ms`, `1h 30m` or `7d`, a day being 24 hours; never negative, at most ten years.
///
/// # Errors
/// What is wrong with the text and what would be right.
pub fn duration(text: &str) -> Result<Duration, String> {
    let hint = "write a number and a unit, such as 5ms, 30s, 15m, 1h or 7d";
    let bad = || format!("`{}` is not a duration; {hint}", shown(text));
    let whole_days = text.trim().strip_suffix('d').and_then(|days| days.parse::<u32>().ok());
    let signed = match whole_days {
        Some(days) => jiff::SignedDuration::from_secs(i64::from(days) * DAY),
        None => text.trim().parse().map_err(|_| bad())?,
    };
    let span = Duration::try_from(signed).map_err(|_| format!("`{}` is negative; {hint}", shown(text)))?;
    if span > TEN_YEARS {
        return Err(format!("`{}` is longer than ten years; {hint}", shown(text)));
    }
    Ok(span)
}

/// A share of one core such as `0.05`: from a thousandth to all of it.
///
/// # Errors
/// What is wrong with the text and what would be right.
pub fn cpu_share(text: &str) -> Result<f64, String> {
    let share = text.trim().parse::<f64>().ok().filter(|share| (0.001..=1.0).contains(share));
    share.ok_or_else(|| {
        format!("`{}` is not a share of a core; write a number from 0.001 to 1, such as 0.05", shown(text))
    })
}

/// A number of bytes such as `8MiB`, `16 KiB`, `64kB` or `16384`.
///
/// # Errors
/// What is wrong with the text and what would be right.
pub fn size(text: &str) -> Result<u64, String> {
    let hint = "write a number of bytes, or a number and one of KiB, MiB, GiB, kB, MB, GB";
    let bad = || format!("`{}` is not a size; {hint}", shown(text));
    let trimmed = text.trim();
    let digits = trimmed.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = trimmed.split_at(digits);
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" => KIB,
        "mib" => MIB,
        "gib" => GIB,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return Err(bad()),
    };
    let number: u64 = number.parse().map_err(|_| bad())?;
    number.checked_mul(factor).ok_or_else(bad)
}

/// The size of the kernel ring: a power of two, 256 KiB to 1 GiB. Every such power is a multiple of the page size.
///
/// # Errors
/// What is wrong with the text and what would be right.
pub fn ring_bytes(text: &str) -> Result<u32, String> {
    let bytes = size(text)?;
    if !bytes.is_power_of_two() || !RING_BYTES.contains(&bytes) {
        return Err(format!(
            "a ring of {bytes} bytes cannot be made: the kernel takes powers of two, and the auditor 256KiB to 1GiB; \
             take {}",
            show_size(nearest_ring(bytes))
        ));
    }
    u32::try_from(bytes).map_err(|_| format!("`{}` is too large", shown(text)))
}

fn nearest_ring(bytes: u64) -> u64 {
    bytes.clamp(*RING_BYTES.start(), *RING_BYTES.end()).next_power_of_two().min(*RING_BYTES.end())
}

/// How much of a message's head is copied: 256 bytes to 16 KiB.
///
/// # Errors
/// What is wrong with the text and what would be right.
pub fn head_bytes(text: &str) -> Result<u32, String> {
    let bytes = size(text)?;
    if !HEAD_BYTES.contains(&bytes) {
        return Err(format!("{bytes} bytes of a head cannot be kept: take 256 to {}", show_size(*HEAD_BYTES.end())));
    }
    u32::try_from(bytes).map_err(|_| format!("`{}` is too large", shown(text)))
}

/// How long the reader of the ring sleeps when there is nothing: 1 ms to 1 s.
///
/// # Errors
/// What is wrong with the text and what would be right.
pub fn poll_interval(text: &str) -> Result<Duration, String> {
    let span = duration(text)?;
    if !POLL_INTERVAL.contains(&span) {
        return Err(format!("a poll interval of `{}` is outside 1ms to 1s; the default is 5ms", shown(text)));
    }
    Ok(span)
}

/// Which hook captures.
///
/// # Errors
/// What is wrong with the text and what would be right.
pub fn hook(text: &str) -> Result<Choice, String> {
    Choice::named(text).ok_or_else(|| {
        let [names @ .., last] = Choice::NAMES;
        format!("there is no hook `{}`; name {} or {last}", shown(text), names.join(", "))
    })
}

/// A longest lifetime for a token: more than nothing.
///
/// # Errors
/// What is wrong with the text and what would be right.
pub fn lifetime(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        span if span.is_zero() => Err("a lifetime of zero would forbid every token; the default is 1h".to_owned()),
        span => Ok(span),
    }
}

/// A time within which calls belong together: a second or more.
///
/// # Errors
/// What is wrong with the text and what would be right.
pub fn window(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        span if span < Duration::from_secs(1) => {
            Err(format!("`{}` is too short for calls to belong together; the default is 1d", shown(text)))
        }
        span => Ok(span),
    }
}

/// A template of paths, such as `/tenants/{tenant}/orders/{id}`.
///
/// # Errors
/// What is wrong with the text and what would be right.
pub fn route_template(text: &str) -> Result<Template, String> {
    Template::new(text).map_err(|reason| format!("`{}` is not a route template; {reason}", shown(text)))
}

/// A limit on how many of something are kept.
///
/// # Errors
/// What is wrong with the text and what would be right.
pub fn count(text: &str) -> Result<usize, String> {
    let hint = "write a whole number, 1 to 100000000";
    let number: u64 =
        text.trim().replace('_', "").parse().map_err(|_| format!("`{}` is not a count; {hint}", shown(text)))?;
    if !COUNT.contains(&number) {
        return Err(format!("{number} is out of range; {hint}"));
    }
    usize::try_from(number).map_err(|_| format!("{number} is out of range; {hint}"))
}

/// A limit on bytes kept for reassembly: 1 MiB to 64 GiB.
///
/// # Errors
/// What is wrong with the text and what would be right.
pub fn buffered_bytes(text: &str) -> Result<usize, String> {
    let bytes = size(text)?;
    if !BUFFERED_BYTES.contains(&bytes) {
        return Err(format!("{bytes} bytes is out of range; take 1MiB to 64GiB"));
    }
    usize::try_from(bytes).map_err(|_| format!("{bytes} bytes is more than this machine can address"))
}

/// A network in CIDR notation; a bare address is a network of one.
///
/// # Errors
/// What is wrong with the text and what would be right.
pub fn network(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    if let Ok(address) = text.parse::<std::net::IpAddr>() {
        return Ok(IpNet::from(address));
    }
    let network: IpNet = text.parse().map_err(|_| {
        format!("`{}` is not a network; write an address and a prefix, such as 10.0.0.0/8", shown(text))
    })?;
    if network != network.trunc() {
        return Err(format!("`{network}` has bits set outside its prefix; write {}", network.trunc()));
    }
    Ok(network)
}

/// The address that metrics are served at.
///
/// # Errors
/// What is wrong with the text and what would be right.
pub fn listen(text: &str) -> Result<SocketAddr, String> {
    text.trim()
        .parse()
        .map_err(|_| format!("`{}` is not an address and a port; write 127.0.0.1:9477 or [::1]:9477", shown(text)))
}

/// An `AF_UNIX` socket: its file name, its whole path, or `@` and its name in the abstract name space.
///
/// # Errors
/// What is wrong with the text and what would be right.
pub fn unix_socket(text: &str) -> Result<String, String> {
    let hint = "write a file name such as admin.sock, a whole path such as /run/app/admin.sock, or @name";
    let fits = !text.is_empty() && text.len() <= auditor_abi::syscalls::PATH_MAX && !text.contains(char::is_control);
    let whole = text.starts_with(['/', '@']) || !text.contains('/');
    if fits && whole && !text.ends_with('/') {
        return Ok(text.to_owned());
    }
    Err(format!("`{}` names no socket; {hint}", shown(text)))
}

/// A header's name (RFC 9110 section 5.1: a token), in lower case.
///
/// # Errors
/// What is wrong with the text and what would be right.
pub fn header_name(text: &str) -> Result<String, String> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if text.is_empty() || text.len() > 256 || !text.bytes().all(token) {
        return Err(format!("`{}` is not a header name; write one such as x-api-key, without a colon", name_of(text)));
    }
    Ok(text.to_ascii_lowercase())
}

/// The name of a cookie or query parameter: one or more visible ASCII characters without separators.
///
/// # Errors
/// What is wrong with the text and what would be right.
pub fn parameter_name(text: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_graphic() && !b"=;,&\"".contains(&byte);
    if text.is_empty() || text.len() > 256 || !text.bytes().all(fits) {
        return Err(format!("`{}` is not a name; write it alone, without `=` and value", name_of(text)));
    }
    Ok(text.to_owned())
}

/// The name of a claim (RFC 7519 section 4), as it stands in tokens.
///
/// # Errors
/// What is wrong with the text and what would be right.
pub fn claim_name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > 128 || text.chars().any(|character| character.is_control() || character == ' ') {
        return Err(format!(
            "`{}` is not the name of a claim; write it as tokens have it, such as tenant",
            name_of(text)
        ));
    }
    Ok(text.to_owned())
}

/// A trust bundle: a PEM file with the certificates of issuers.
///
/// # Errors
/// What is wrong with the file, and what to do.
pub fn bundle(text: &str) -> Result<Bundle, String> {
    Bundle::read(text)
}

/// The name of a SPIFFE trust domain.
///
/// # Errors
/// What is wrong with the text and what would be right.
pub fn trust_domain(text: &str) -> Result<String, String> {
    if !is_trust_domain(text) {
        return Err(format!("`{}` is not a trust domain; write its name alone, such as prod.example", shown(text)));
    }
    Ok(text.to_owned())
}

/// What is shown of a name that is none: a value pasted behind it may be a secret, and stays out of messages.
fn name_of(text: &str) -> String {
    shown(text.split([':', '=', ' ', ';']).next().unwrap_or_default())
}

/// A size as people write it: `8MiB`, `16KiB`, `1000B`.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    for (unit, name) in [(GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")] {
        if bytes >= unit && bytes.is_multiple_of(unit) {
            return format!("{}{name}", bytes / unit);
        }
    }
    format!("{bytes}B")
}

/// A duration as people write it: `5ms`, `1h 30m`, `7d`.
#[must_use]
pub fn show_duration(span: Duration) -> String {
    let day = DAY.unsigned_abs();
    if span.subsec_nanos() == 0 && span.as_secs() >= day && span.as_secs().is_multiple_of(day) {
        return format!("{}d", span.as_secs() / day);
    }
    jiff::SignedDuration::try_from(span).map_or_else(|_| format!("{}s", span.as_secs()), |signed| format!("{signed:#}"))
}

/// Text from outside, made fit for a message: cut, control characters escaped.
#[must_use]
pub fn shown(text: &str) -> String {
    const LONGEST: usize = 80;
    let mut out = String::new();
    for character in text.chars().take(LONGEST) {
        if character.is_control() {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    if text.chars().nth(LONGEST).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::plan::Hook;

    #[test]
    fn reads_durations() {
        for (text, expected) in [
            ("5ms", Duration::from_millis(5)),
            ("1h", Duration::from_secs(3600)),
            ("1h 30m", Duration::from_secs(5400)),
            ("90s", Duration::from_secs(90)),
            (" 250us ", Duration::from_micros(250)),
            ("7d", Duration::from_secs(7 * 24 * 3600)),
            ("0d", Duration::ZERO),
        ] {
            assert_eq!(duration(text), Ok(expected), "{text:?}");
        }
        for text in ["", "5", "ms", "-5s", "5 parsecs", "1000000h", "∞", "-1d", "4000d", "d", "99999999999d"] {
            assert!(duration(text).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn shows_what_it_reads() {
        for text in ["5ms", "1h", "1h 30m", "23h", "7d", "3650d"] {
            assert_eq!(show_duration(duration(text).unwrap()), text);
        }
        for text in ["8MiB", "16KiB", "1GiB", "1000B", "0B"] {
            assert_eq!(show_size(size(text).unwrap()), text);
        }
    }

    #[test]
    fn reads_sizes() {
        for (text, expected) in
            [("0", 0), ("16384", 16384), ("16KiB", 16384), ("16 kib", 16384), ("8MiB", 8 << 20), ("1GB", 1_000_000_000)]
        {
            assert_eq!(size(text), Ok(expected), "{text:?}");
        }
        for text in ["", "MiB", "-1", "1.5MiB", "8 furlongs", "99999999999GiB", "18446744073709551616"] {
            assert!(size(text).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn takes_only_rings_the_kernel_takes() {
        assert_eq!(ring_bytes("256KiB"), Ok(256 << 10));
        assert_eq!(ring_bytes("1GiB"), Ok(1 << 30));
        for (text, better) in [("3MiB", "4MiB"), ("4KiB", "256KiB"), ("2GiB", "1GiB"), ("0", "256KiB")] {
            let message = ring_bytes(text).unwrap_err();
            assert!(message.ends_with(&format!("take {better}")), "{text}: {message}");
        }
    }

    #[test]
    fn keeps_values_in_range() {
        assert_eq!(head_bytes("16KiB"), Ok(16384));
        assert!(head_bytes("32KiB").is_err());
        assert!(head_bytes("16").is_err());
        assert!(poll_interval("0ms").is_err());
        assert!(poll_interval("2s").is_err());
        assert_eq!(hook("auto"), Ok(Choice::Auto));
        assert_eq!(hook("kprobe"), Ok(Choice::Only(Hook::Kprobe)));
        assert_eq!(
            hook("ebpf"),
            Err("there is no hook `ebpf`; name auto, cgroup, fentry, kprobe or syscall".to_owned())
        );
        assert!(lifetime("0s").is_err());
        assert!(window("999ms").is_err());
        assert_eq!(window("1s"), Ok(Duration::from_secs(1)));
        assert_eq!(count("65_536"), Ok(65536));
        assert!(count("0").is_err());
        assert!(count("many").is_err());
        assert!(buffered_bytes("1KiB").is_err());
    }

    #[test]
    fn says_which_network_was_meant() {
        assert_eq!(network("10.0.0.0/8").unwrap().to_string(), "10.0.0.0/8");
        assert_eq!(network("fd00::/8").unwrap().to_string(), "fd00::/8");
        assert_eq!(network("10.1.2.3").unwrap().to_string(), "10.1.2.3/32");
        assert!(network("10.1.2.3/8").unwrap_err().ends_with("write 10.0.0.0/8"));
        for text in ["10.0.0.0/33", "300.0.0.0/8", "", "fd00::/129", "internal"] {
            assert!(network(text).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn names_are_names() {
        assert_eq!(header_name("X-Api-Key"), Ok("x-api-key".to_owned()));
        assert!(header_name("x-api-key: 123").is_err());
        assert!(header_name("").is_err());
        assert_eq!(parameter_name("api_key"), Ok("api_key".to_owned()));
        let message = parameter_name("api_key=hunter2").unwrap_err();
        assert!(message.contains("api_key") && !message.contains("hunter2"), "{message}");
    }

    #[test]
    fn templates_are_paths() {
        let template = "/tenants/{tenant}/orders/{id}";
        assert_eq!(route_template(template).map(|read| read.as_str().to_owned()), Ok(template.to_owned()));
        let message = route_template("/a?token=hunter2").unwrap_err();
        assert!(message.contains("without query"), "{message}");
    }

    #[test]
    fn trust_domains_are_names() {
        assert_eq!(trust_domain("prod.example"), Ok("prod.example".to_owned()));
        for text in ["", "spiffe://prod.example", "Prod", "a b"] {
            assert!(trust_domain(text).unwrap_err().ends_with("such as prod.example"), "{text:?} was taken");
        }
    }

    #[test]
    fn text_from_outside_is_cut_and_escaped() {
        assert_eq!(shown("a\u{1b}[31m"), "a\\u{1b}[31m");
        assert_eq!(shown(&"x".repeat(1000)).chars().count(), 81);
    }
}
