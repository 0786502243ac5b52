//! Redaction of command lines: `curl -H "Authorization: Bearer ..." --password=x postgres://u:p@host` shows no secret.

use super::shape::is_token;

/// What stands in place of a secret.
const MASK: &str = "***";
/// Longest command line that is looked at, bytes; what follows is left out.
const LIMIT: usize = 16 * 1024;

/// Words in the name of an option, a variable or a header that holds a secret.
const SECRET_WORDS: [&str; 18] = [
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "token",
    "apikey",
    "api-key",
    "api_key",
    "auth",
    "credential",
    "cookie",
    "session",
    "bearer",
    "private-key",
    "private_key",
    "access-key",
    "access_key",
];

/// Authentication schemes after which the secret follows.
const SCHEMES: [&str; 8] = ["bearer", "basic", "token", "digest", "negotiate", "apikey", "dpop", "aws4-hmac-sha256"];

/// What is expected of the next word.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Nothing is known of it.
    Plain,
    /// It is a secret, or a scheme before one.
    Secret,
    /// It is `user:password`.
    User,
    /// Everything up to the end of a quoted text, or to the next option.
    Header,
}

/// A command line in which what may be a secret is replaced by `***`: values of options, variables and headers whose name
/// says so, what follows an authentication scheme, passwords and queries of URLs, `user:password` after `-u`, and words that
/// look like random tokens. Words are told apart by white space and quotes.
#[must_use]
pub fn redact_arguments(line: &str) -> String {
    let mut end = line.len().min(LIMIT);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    let mut out = String::with_capacity(end);
    let mut next = Next::Plain;
    let mut program = "";
    let is_separator = |character: char| character.is_whitespace() || matches!(character, '"' | '\'' | '\0');
    for piece in line[..end].split_inclusive(is_separator) {
        let word = piece.trim_end_matches(is_separator);
        let separator = &piece[word.len()..];
        if word.is_empty() {
            if next == Next::Header && !separator.starts_with(char::is_whitespace) {
                next = Next::Plain;
            }
        } else if word.contains("-----BEGIN") {
            out.push_str(MASK);
            return out;
        } else {
            if program.is_empty() {
                program = word.rsplit('/').next().unwrap_or_default();
            }
            next = push(&mut out, word, next, program);
            if next == Next::Header && separator.starts_with(['"', '\'']) {
                next = Next::Plain;
            }
        }
        out.push_str(separator);
    }
    out
}

/// Appends a word, masked as it must be, and says what is expected of the one that follows.
fn push(out: &mut String, word: &str, expected: Next, program: &str) -> Next {
    let is_option = word.starts_with('-');
    match expected {
        Next::Secret if SCHEMES.iter().any(|scheme| word.eq_ignore_ascii_case(scheme)) => {
            out.push_str(word);
            return Next::Secret;
        }
        Next::Secret if !word.starts_with("--") => {
            out.push_str(MASK);
            return Next::Plain;
        }
        Next::User if !is_option => {
            let user = word.split(':').next().unwrap_or_default();
            out.push_str(if user.len() < word.len() && !is_token(user.as_bytes()) { user } else { MASK });
            out.push_str(if user.len() < word.len() && !is_token(user.as_bytes()) { ":***" } else { "" });
            return Next::Plain;
        }
        Next::Header if SCHEMES.iter().any(|scheme| word.eq_ignore_ascii_case(scheme)) => {
            out.push_str(word);
            return Next::Header;
        }
        Next::Header if !is_option && !word.contains("://") => {
            out.push_str(MASK);
            return Next::Header;
        }
        _ => {}
    }
    if SCHEMES[..3].iter().any(|scheme| word.eq_ignore_ascii_case(scheme)) {
        out.push_str(word);
        return Next::Secret;
    }
    if is_option && matches!(word, "-u" | "-U" | "--user" | "--proxy-user" | "--login") {
        out.push_str(word);
        return Next::User;
    }
    if let Some(flag) = password_flag(program)
        && let Some(secret) = word.strip_prefix(flag)
    {
        out.push_str(flag);
        out.push_str(if secret.is_empty() { "" } else { MASK });
        // The MySQL clients ask for a password that is not there; the word behind is a database.
        return if secret.is_empty() && !program.starts_with('m') { Next::Secret } else { Next::Plain };
    }
    if !word.contains("://")
        && let Some(at) = word.find(['=', ':'])
        && is_secret_name(&word[..at])
    {
        let (name, value) = word.split_at(at + 1);
        out.push_str(name);
        out.push_str(if value.is_empty() { "" } else { MASK });
        // A header's value may be several words.
        return match (name.ends_with(':'), value.is_empty()) {
            (true, _) => Next::Header,
            (false, true) => Next::Secret,
            (false, false) => Next::Plain,
        };
    }
    push_plain(out, word);
    if is_option && is_secret_name(word) && !word.contains('=') { Next::Secret } else { Next::Plain }
}

/// The short password option of a program, if its password may be written right behind it; elsewhere `-p` mostly is a port.
fn password_flag(program: &str) -> Option<&'static str> {
    let flags = [("mysql", "-p"), ("mariadb", "-p"), ("sshpass", "-p"), ("redis-cli", "-a")];
    flags.into_iter().find(|(name, _)| program.starts_with(name)).map(|(_, flag)| flag)
}

fn is_secret_name(name: &str) -> bool {
    let name = name.get(..name.len().min(64)).unwrap_or_default().to_ascii_lowercase();
    SECRET_WORDS.iter().any(|word| name.contains(word)) || matches!(name.as_str(), "--pass" | "pass" | "--key")
}

/// A word of which nothing is known: a URL loses its userinfo and the values of its query, tokens go.
fn push_plain(out: &mut String, word: &str) {
    let (head, query) = word.find('?').filter(|_| word.contains('/')).map_or((word, ""), |at| word.split_at(at));
    let mut head = head;
    if let Some(at) = head.find("://") {
        let (scheme, rest) = head.split_at(at + 3);
        out.push_str(scheme);
        let authority = rest.find('/').unwrap_or(rest.len());
        head = match rest[..authority].rfind('@') {
            Some(at) => {
                out.push_str(MASK);
                &rest[at..]
            }
            None => rest,
        };
    }
    for part in head.split_inclusive(['/', ':', '=', ',', '@', ';']) {
        let text = part.trim_end_matches(['/', ':', '=', ',', '@', ';']);
        out.push_str(if is_token(text.as_bytes()) || is_jwt(text) { MASK } else { text });
        out.push_str(&part[text.len()..]);
    }
    for pair in query.split_inclusive(['?', '&', '#', ';']) {
        let text = pair.trim_end_matches(['?', '&', '#', ';']);
        match text.split_once('=') {
            Some((name, value)) => out.extend([name, "=", if value.is_empty() { "" } else { MASK }]),
            None if text.is_empty() => {}
            None => out.push_str(MASK),
        }
        out.push_str(&pair[text.len()..]);
    }
}

fn is_jwt(text: &str) -> bool {
    text.len() >= 16 && text.starts_with("ey") && text.contains('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked() {
        for (line, expected) in [
            ("app --password=hunter2 -v", "app --password=*** -v"),
            ("app --password hunter2 -v", "app --password *** -v"),
            ("DB_PASSWORD=hunter2 app", "DB_PASSWORD=*** app"),
            ("curl -H Authorization: Bearer hunter2 http://h/x", "curl -H Authorization: Bearer *** http://h/x"),
            ("curl -H \"Authorization: Basic aHVudGVyMg==\" -v", "curl -H \"Authorization: Basic ***\" -v"),
            ("curl -H 'X-Api-Key:hunter2' u", "curl -H 'X-Api-Key:***' u"),
            ("curl -H Cookie: a=1; b=2 -v", "curl -H Cookie: *** *** -v"),
            ("curl -u me:hunter2 http://h", "curl -u me:*** http://h"),
            ("curl --user hunter2token http://h", "curl --user *** http://h"),
            ("psql postgres://me:hunter2@db/x?sslpassword=y", "psql postgres://***@db/x?sslpassword=***"),
            ("curl http://h/x?key=hunter2&b", "curl http://h/x?key=***&***"),
            ("mysql -phunter2 db", "mysql -p*** db"),
            ("/usr/bin/sshpass -p hunter2 ssh h", "/usr/bin/sshpass -p *** ssh h"),
            ("redis-cli -a hunter2 ping", "redis-cli -a *** ping"),
            ("app 9f86d081884c7d659a2feaa0c55ad015", "app ***"),
            ("app eyJhbGciOiJub25lIn0.e30.", "app ***"),
            ("app -----BEGIN PRIVATE KEY----- MIIE", "app ***"),
            ("app --token= hunter2", "app --token= ***"),
        ] {
            assert_eq!(redact_arguments(line), expected, "{line}");
        }
    }

    #[test]
    fn what_is_no_secret_stays() {
        for line in [
            "",
            "/usr/lib/jvm/java-17-openjdk-amd64/bin/java -Xmx512m -jar /srv/app.jar --server.port=8080",
            "python3 -m http.server -b 127.0.0.1 8080",
            "nginx: worker process",
            "mysql -p db",
            "docker run -p 8080:80 image:1.2.3",
            "curl -s http://10.0.0.1:8080/items/42",
        ] {
            assert_eq!(redact_arguments(line), line);
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config { failure_persistence: None, ..Default::default() })]

        #[test]
        fn any_line_is_taken(line: String) {
            proptest::prop_assert!(redact_arguments(&line).len() <= line.len() * 4 + 8);
        }
    }
}
