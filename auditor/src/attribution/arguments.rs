//! Takes secrets out of command lines before anything else sees them. It rather hides too much: a hidden port is a nuisance, a
//! shown password is a leak.

use std::borrow::Cow;

/// What stands where a secret was.
pub const REDACTED: &str = "[redacted]";
/// Longest command line that is shown, bytes.
pub const SHOWN_MAX: usize = 256;

/// Words that make the value after them a secret, wherever they stand in a name.
const SECRET_WORDS: [&str; 21] = [
    "pass",
    "pwd",
    "secret",
    "token",
    "key",
    "auth",
    "bearer",
    "basic",
    "credential",
    "cookie",
    "session",
    "signature",
    "assertion",
    "jwt",
    "otp",
    "saml",
    "ticket",
    "private",
    "dsn",
    "connection-string",
    "connectionstring",
];
/// Flags whose next argument holds a secret if it is a pair.
const PAIR_FLAGS: [&str; 10] =
    ["-u", "-U", "-a", "-A", "-b", "--user", "--proxy-user", "--auth-user", "--login", "--cred"];
/// Programs whose short flag takes a password: the program's name begins so, the flag.
const PASSWORD_FLAGS: [(&str, &str); 9] = [
    ("mysql", "-p"),
    ("mariadb", "-p"),
    ("mongo", "-p"),
    ("sshpass", "-p"),
    ("sqlcmd", "-P"),
    ("redis-cli", "-a"),
    ("valkey-cli", "-a"),
    ("ldap", "-w"),
    ("mosquitto_", "-P"),
];
/// How tokens of well-known issuers begin.
const TOKEN_PREFIXES: [&str; 15] = [
    "eyJ",
    "ghp_",
    "gho_",
    "ghs_",
    "ghu_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "sk-",
    "sk_live_",
    "sk_test_",
    "AKIA",
    "hvs.",
    "npm_",
];
/// Authorization schemes that a value follows.
const SCHEMES: [&str; 4] = ["basic", "bearer", "digest", "token"];
/// Headers whose values are harmless.
const PLAIN_HEADERS: [&str; 12] = [
    "accept",
    "accept-encoding",
    "accept-language",
    "cache-control",
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "range",
    "transfer-encoding",
    "user-agent",
];

/// A command line that is safe to show: secrets replaced, control characters replaced, cut at [`SHOWN_MAX`] bytes. The arguments
/// are parted by NUL, as in `/proc/PID/cmdline`; where there is none, by white space.
#[must_use]
pub fn redact_arguments(command_line: &str) -> String {
    let by_nul = command_line.contains('\0');
    let arguments: Vec<&str> = if by_nul {
        command_line.trim_end_matches('\0').split('\0').collect()
    } else {
        command_line.split_whitespace().collect()
    };
    let program = arguments.first().map_or("", |first| file_name(first));
    let mut out = String::new();
    let mut expected = Expected::Anything;
    for argument in arguments {
        if out.len() > SHOWN_MAX {
            break;
        }
        let (shown, next) = argument_shown(program, argument, expected);
        expected = next;
        if !out.is_empty() {
            out.push(' ');
        }
        out.extend(shown.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }));
    }
    out.truncate(out.floor_char_boundary(SHOWN_MAX));
    out
}

/// Whether a word looks like a token drawn at random rather than like a name.
pub(super) fn looks_random(word: &str) -> bool {
    if TOKEN_PREFIXES.iter().any(|prefix| word.starts_with(prefix)) && word.len() >= 12 {
        return true;
    }
    let class = |c: char| match c {
        '0'..='9' => 1,
        'A'..='Z' => 2,
        'a'..='z' => 3,
        _ => 0,
    };
    let digits = word.chars().filter(char::is_ascii_digit).count();
    let classes = || word.chars().map(class).filter(|class| *class != 0);
    let changes = classes().zip(classes().skip(1)).filter(|(a, b)| a != b).count();
    let hexadecimal = word.len() >= 24 && digits >= 4 && word.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    hexadecimal || (word.len() >= 16 && digits >= 2 && changes >= 5) || (word.len() >= 32 && changes >= 12)
}

/// What the previous argument says of the next one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expected {
    Anything,
    /// It is a secret if it is a pair or looks random.
    Pair,
    /// It is a secret.
    Secret,
    /// It is the rest of a header's value whose words came apart: secret up to the next flag.
    Words,
}

fn argument_shown<'a>(program: &str, argument: &'a str, expected: Expected) -> (Cow<'a, str>, Expected) {
    let hidden = Cow::Borrowed(REDACTED);
    match expected {
        // `--auth Bearer VALUE` whose words came apart.
        Expected::Secret if SCHEMES.iter().any(|scheme| scheme.eq_ignore_ascii_case(argument)) => {
            return (hidden, Expected::Words);
        }
        Expected::Secret => return (hidden, Expected::Anything),
        Expected::Words if !argument.starts_with('-') => return (hidden, Expected::Words),
        Expected::Pair if argument.contains([':', '=']) || looks_random(argument) => {
            return (hidden, Expected::Anything);
        }
        _ => {}
    }
    if let Some(flag) = password_flag(program)
        && let Some(value) = argument.strip_prefix(flag)
    {
        let next = if value.is_empty() { Expected::Secret } else { Expected::Anything };
        return (Cow::Owned(format!("{flag}{}", if value.is_empty() { "" } else { REDACTED })), next);
    }
    if let Some(flag) = argument.get(..2).filter(|flag| matches!(*flag, "-u" | "-U" | "-b"))
        && argument.contains([':', '='])
    {
        return (Cow::Owned(format!("{flag}{REDACTED}")), Expected::Anything);
    }
    if PAIR_FLAGS.contains(&argument) {
        return (argument.into(), Expected::Pair);
    }
    if let Some(at) = secret_value(argument) {
        let next = if argument[at..].trim().is_empty() && argument.ends_with(':') {
            Expected::Words
        } else if at == argument.len() {
            Expected::Secret
        } else {
            Expected::Anything
        };
        let mark = if next == Expected::Anything { REDACTED } else { "" };
        // What precedes the one may hold another: an address with a password in front of `?password=`.
        let before = without_tokens(&argument[..at]);
        let mark = if before.ends_with(REDACTED) { "" } else { mark };
        return (Cow::Owned(format!("{before}{mark}")), next);
    }
    (without_tokens(argument), Expected::Anything)
}

fn password_flag(program: &str) -> Option<&'static str> {
    PASSWORD_FLAGS.iter().find(|(name, _)| program.starts_with(name)).map(|(_, flag)| *flag)
}

/// Where the secret of an argument begins; its end when the argument only announces one.
fn secret_value(argument: &str) -> Option<usize> {
    // `Name: value` of a header that is not known to be harmless.
    if let Some((name, value)) = argument.split_once(": ")
        && !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        && !PLAIN_HEADERS.iter().any(|plain| plain.eq_ignore_ascii_case(name))
    {
        return Some(argument.len() - value.len());
    }
    let lower = argument.to_ascii_lowercase();
    let mut first: Option<usize> = None;
    for word in SECRET_WORDS {
        for (at, _) in lower.match_indices(word) {
            let after = &argument[at + word.len()..];
            let name = after.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || "_-.\"'\\]".contains(c));
            let value = argument.len() - name.len();
            let separated = name.starts_with(['=', ':', ' ']);
            // A lone flag announces its value; a lone word does not.
            let announces = name.is_empty() && argument.starts_with('-') && !argument.contains(['=', ':', '/', ' ']);
            if separated || announces {
                let start = if separated { value + 1 } else { value };
                first = Some(first.map_or(start, |known| known.min(start)));
                // The first occurrence of the word that takes a value is the earliest for it.
                break;
            }
        }
    }
    first
}

/// What follows a URL's scheme, user information, query and fragment hidden.
fn without_user(rest: &str) -> String {
    let authority = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let shown = match rest.rfind('@') {
        Some(at) if at < authority => &rest[at..],
        // A password with a slash in it, or several URLs: where the secret ends cannot be told.
        Some(_) if rest[..authority].contains([':', '@']) => return REDACTED.to_owned(),
        _ => rest,
    };
    let user = if shown.len() < rest.len() { REDACTED } else { "" };
    let (path, query) = shown.find(['?', '#']).map_or((shown, ""), |query| (&shown[..=query], REDACTED));
    format!("{user}{path}{query}")
}

/// Hides user information and queries of URLs, and what looks like a token.
fn without_tokens(argument: &str) -> Cow<'_, str> {
    let mut text = Cow::Borrowed(argument);
    if let Some(at) = argument.find("://") {
        let (scheme, rest) = argument.split_at(at + 3);
        text = Cow::Owned(format!("{scheme}{}", without_user(rest)));
    }
    let is_path = text.starts_with(['/', '.', '~']) || text.contains("://") || text.contains('.');
    let is_word = |c: char| c.is_ascii_alphanumeric() || "_-+".contains(c) || (!is_path && c == '/');
    let mut at = 0;
    for piece in text.split(|c| !is_word(c)) {
        if looks_random(piece) {
            // What precedes it in a path or after a flag's `=` is no part of it; what follows may be.
            return Cow::Owned(format!("{}{REDACTED}", &text[..at]));
        }
        at += piece.len() + text[at + piece.len()..].chars().next().map_or(0, char::len_utf8);
    }
    text
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Command lines with `#` where the secret stands; blanks part the arguments, `~` is a blank inside an argument.
    const WITH_SECRET: [&str; 36] = [
        "app --password=# --port 80",
        "app --password # --port 80",
        "app --db-pass # x",
        "app --api-key=# x",
        "app --access_token # x",
        "app -Dspring.datasource.password=# -jar a.jar",
        "env SECRET_KEY=# app",
        "DB_PASSWORD=# app",
        "curl -H Authorization:~Bearer~# http://a/b",
        "curl --header X-Custom:~# http://a/b",
        "curl -u admin:# http://a/b",
        "curl -uadmin:# http://a/b",
        "curl --user admin:# http://a/b",
        "curl -b sid=# http://a/b",
        "curl http://admin:#@host/path",
        "curl http://admin:a/#@host/path",
        "curl https://host/path?sig=#",
        "curl https://host/path#access=#",
        "curl --url=https://user:#@host/",
        "curl -d user=x&password=# http://a/b",
        "curl -d {\"name\":\"x\",\"password\":\"#\"} http://a/b",
        "curl --cookie session=# http://a/b",
        "psql postgresql://app:#@db:5432/shop",
        "app amqp://guest:#@mq//",
        "mysql -uroot -p# shop",
        "mysqldump -p # shop",
        "/usr/bin/sshpass -p # ssh host",
        "redis-cli -a # ping",
        "ldapsearch -w # -b dc=x",
        "app --dsn # x",
        "app Server=db;User~Id=sa;Password=#;",
        "app AccountName=a;AccountKey=#;EndpointSuffix=x",
        "app --auth bearer~#",
        "app token:# x",
        "app --private-key # x",
        "app --jwt=#",
    ];

    #[test]
    fn announced_secrets_are_hidden() {
        for template in WITH_SECRET {
            for secret in ["hunter2", "correct horse", "x", "-dash", "p@ss:w=rd/1"] {
                let line = template.replace(' ', "\0").replace('~', " ");
                // An address holds neither blanks nor dashes at its front.
                let (before, after) = line.rsplit_once('#').unwrap();
                let secret = format!("CANARY{secret}CANARY");
                let shown = redact_arguments(&format!("{before}{secret}{after}\0"));
                assert!(!shown.contains("CANARY"), "{template} with {secret}: {shown}");
                assert!(shown.contains(REDACTED), "{template}: {shown}");
            }
        }
    }

    #[test]
    fn the_same_parted_by_blanks() {
        for template in WITH_SECRET.iter().filter(|template| !template.contains("X-Custom")) {
            let (before, after) =
                template.replace('~', " ").rsplit_once('#').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
            let shown = redact_arguments(&format!("{before}CANARY1{after}"));
            assert!(!shown.contains("CANARY"), "{template}: {shown}");
        }
    }

    #[test]
    fn tokens_are_hidden_wherever_they_stand() {
        let tokens = [
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl",
            "ghp_abcdefghijklmnopqrst",
            "AKIAIOSFODNN7EXAMPLE",
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            "3f2504e0-4f89-11d3-9a0c-0305e82c3301",
            "d41d8cd98f00b204e9800998ecf8427e",
            "AbCdEfGhIjKlMnOpQrStUvWxYzAbCdEfGh",
            "q7Zp0LxV9sT2mB4n",
        ];
        for token in tokens {
            for line in [format!("app\0{token}"), format!("app\0-x\0{token}\0y"), format!("app\0--value={token}")] {
                let shown = redact_arguments(&line);
                assert!(!shown.contains(&token[..8]), "{token}: {shown}");
            }
        }
        let hook = redact_arguments("app\0https://hooks.example/services/T0/B0/q7Zp0LxV9sT2mB4nQ8\0");
        assert_eq!(hook, "app https://hooks.example/services/T0/B0/[redacted]");
    }

    #[test]
    fn harmless_command_lines_stay_readable() {
        let lines = [
            "python3 -m http.server 8080 --bind 127.0.0.1",
            "/usr/sbin/nginx -g daemon off;",
            "java -Xmx512m -cp /srv/app.jar:/srv/lib/x.jar com.example.orders.Main --server.port=8080",
            "node /srv/cart/server.js --port 3000",
            "curl -s -H Accept: application/json http://127.0.0.1:8080/items/42",
            "/usr/lib/x86_64-linux-gnu/thing --listen 0.0.0.0:80",
            "wget -a log.txt http://10.0.0.1/",
        ];
        for line in lines {
            let nul = line.replace(' ', "\0").replace("daemon\0off", "daemon off").replace("Accept:\0", "Accept: ");
            assert_eq!(redact_arguments(&nul), line);
        }
    }

    #[test]
    fn control_characters_and_length() {
        assert_eq!(redact_arguments("a\0b\x1b[31mc\nd\0\0"), "a b\u{fffd}[31mc\u{fffd}d");
        assert_eq!(redact_arguments(""), "");
        let long = redact_arguments(&"é ".repeat(1000));
        assert!(long.len() <= SHOWN_MAX && long.len() > SHOWN_MAX - 4, "{}", long.len());
    }

    proptest! {
        #[test]
        fn any_text_is_cut_and_printable(text in "(\\PC|[\\x00 =:/@?#.-]){0,300}") {
            let shown = redact_arguments(&text);
            prop_assert!(shown.len() <= SHOWN_MAX);
            prop_assert!(!shown.chars().any(char::is_control));
        }
    }
}
