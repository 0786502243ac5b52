//! The name a process is aggregated by. It must be the same for every instance and every restart of a program, and must not hold
//! anything drawn at random.
//!
//! It is the file name of the executable; for an interpreter its name without the minor version, a colon and what it runs:
//! `python3:orders.py`, `python3:http.server` (module), `node:server.js`, `java:orders.jar`, `java:com.example.Main`,
//! `bash:backup.sh`. A script whose name says nothing (`app.py`, `index.js`) carries its directory: `python3:orders/app.py`; a
//! server that loads an application carries the application: `python3:uvicorn/orders.main:app`. Code given on the command line
//! has no name: the interpreter's stands alone.

use super::arguments::looks_random;

/// Longest name, bytes.
const NAME_MAX: usize = 80;
/// Script names that many programs share.
const SAYS_NOTHING: [&str; 11] =
    ["__main__", "app", "cli", "index", "main", "manage", "run", "script", "server", "start", "wsgi"];
/// Directories that say nothing of what is in them.
const PLACES: [&str; 14] =
    ["", ".", "..", "app", "bin", "build", "code", "dist", "home", "lib", "src", "srv", "tmp", "workspace"];
/// Programs that load an application named `module:object`.
const APPLICATION_SERVERS: [&str; 6] = ["daphne", "granian", "gunicorn", "hypercorn", "uvicorn", "waitress-serve"];

/// An interpreter: how it is told what to run.
struct Interpreter {
    /// How the executable's name begins; a version may follow.
    name: &'static str,
    /// Options whose value is the next argument.
    with_value: &'static [&'static str],
    /// Options whose value is what runs.
    target: &'static [&'static str],
    /// Options whose value is code.
    code: &'static [&'static str],
}

const INTERPRETERS: [Interpreter; 10] = [
    Interpreter {
        name: "python",
        with_value: &["-W", "-X", "--check-hash-based-pycs"],
        target: &["-m"],
        code: &["-c"],
    },
    Interpreter {
        name: "node",
        with_value: &["-r", "--require", "--import", "--loader", "--experimental-loader", "-C", "--conditions"],
        target: &[],
        code: &["-e", "--eval", "-p", "--print", "-pe"],
    },
    Interpreter {
        name: "java",
        with_value: &[
            "-cp",
            "-classpath",
            "--class-path",
            "-p",
            "--module-path",
            "--add-modules",
            "--add-opens",
            "--add-exports",
            "--add-reads",
            "--enable-native-access",
        ],
        target: &["-jar", "-m", "--module"],
        code: &[],
    },
    Interpreter { name: "ruby", with_value: &["-I", "-r", "-C"], target: &[], code: &["-e"] },
    Interpreter { name: "perl", with_value: &["-I"], target: &[], code: &["-e", "-E"] },
    Interpreter { name: "php", with_value: &["-c", "-d", "-S", "-t", "-z"], target: &["-f"], code: &["-r"] },
    Interpreter { name: "bash", with_value: &["-o", "-O", "--rcfile", "--init-file"], target: &[], code: &["-c"] },
    Interpreter { name: "dash", with_value: &["-o"], target: &[], code: &["-c"] },
    Interpreter { name: "zsh", with_value: &["-o"], target: &[], code: &["-c"] },
    Interpreter { name: "sh", with_value: &["-o"], target: &[], code: &["-c"] },
];

/// The name of a process from its executable's path, its command line (parted by NUL) and the kernel's name of it.
pub(super) fn name(executable: Option<&str>, command_line: &str, command: &str) -> String {
    let Some(file) = executable.map(file_name).filter(|file| !file.is_empty()) else {
        return clean(command);
    };
    // One file that holds many programs: the kernel's name says which.
    if matches!(file, "busybox" | "toybox" | "coreutils") {
        return clean(command);
    }
    let Some((interpreter, short)) = INTERPRETERS.iter().find_map(|known| Some((known, short_name(file, known.name)?)))
    else {
        return clean(file);
    };
    match target(interpreter, command_line) {
        Some(target) => clean(&format!("{short}:{target}")),
        None => clean(short),
    }
}

/// The interpreter's name up to its major version, when `file` is it: `python3.11` is `python3`.
fn short_name<'a>(file: &'a str, interpreter: &str) -> Option<&'a str> {
    let version = file.strip_prefix(interpreter)?;
    let is_version = version.chars().all(|c| c.is_ascii_digit() || c == '.' || c == '-') || version == "js";
    let major = version.find(['.', '-']).unwrap_or(version.len());
    is_version
        .then(|| if version == "js" { interpreter.len() } else { interpreter.len() + major })
        .and_then(|end| file.get(..end))
}

/// What an interpreter runs.
fn target(interpreter: &Interpreter, command_line: &str) -> Option<String> {
    let mut arguments = command_line.split('\0').skip(1);
    while let Some(argument) = arguments.next() {
        let is = |options: &[&str]| options.contains(&argument);
        if is(interpreter.code) {
            return None;
        }
        if is(interpreter.target) {
            return named(arguments.next()?, arguments);
        }
        if is(interpreter.with_value) {
            arguments.next();
        } else if argument == "--" {
            return named(arguments.next()?, arguments);
        } else if !argument.starts_with(['-', '@', '+']) {
            return named(argument, arguments);
        } else if let Some(letters) = argument.strip_prefix('-').filter(|letters| !letters.starts_with('-')) {
            // Letters may stand together: `-Im module`, `-xc code`. Java's options are words.
            if interpreter.name != "java" && letters.bytes().all(|byte| byte.is_ascii_alphabetic()) {
                let last = letters.get(letters.len().saturating_sub(1)..).unwrap_or_default();
                let ends_in = |options: &[&str]| options.iter().any(|option| option.strip_prefix('-') == Some(last));
                if ends_in(interpreter.code) {
                    return None;
                }
                if ends_in(interpreter.target) {
                    return named(arguments.next()?, arguments);
                }
            }
        }
    }
    None
}

/// A short name for a script, module, archive or class.
fn named<'a>(target: &str, mut rest: impl Iterator<Item = &'a str>) -> Option<String> {
    let file = file_name(target);
    if file.is_empty() || file == "-" || looks_random(file) {
        return None;
    }
    if APPLICATION_SERVERS.contains(&file) {
        return Some(match rest.find(|argument| is_application(argument)) {
            Some(application) => format!("{file}/{application}"),
            None => file.to_owned(),
        });
    }
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    let directory = target.strip_suffix(file).and_then(|path| path.strip_suffix('/')).map_or("", file_name);
    if SAYS_NOTHING.contains(&stem) && !PLACES.contains(&directory) && !is_temporary(directory) {
        return Some(format!("{directory}/{file}"));
    }
    Some(file.to_owned())
}

/// `module:object`, as application servers name what they load; `host:port` is not it.
fn is_application(argument: &str) -> bool {
    let identifier = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.".contains(c))
    };
    argument
        .split_once(':')
        .is_some_and(|(module, object)| identifier(module) && identifier(object.trim_end_matches("()")))
        && !looks_random(argument)
}

/// Directories named by chance: `tmpx8d0k2`, `tmp.Xy12`, a version, a hash.
fn is_temporary(directory: &str) -> bool {
    directory.starts_with("tmp") || directory.starts_with('.') || directory.bytes().any(|byte| byte.is_ascii_digit())
}

/// The characters names are made of, cut to length.
fn clean(name: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() || "._:/+@-".contains(c) { c } else { '_' };
    let mut name: String = name.chars().map(plain).collect();
    name.truncate(name.floor_char_boundary(NAME_MAX));
    name
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names() {
        let cases = [
            ("/usr/sbin/nginx", "nginx: worker process", "nginx"),
            ("/usr/bin/curl", "curl http://a", "curl"),
            ("/usr/bin/python3.11", "python3 /srv/orders.py --port 1", "python3:orders.py"),
            ("/usr/bin/python3.11", "python3 -u -W ignore -X dev orders.py", "python3:orders.py"),
            ("/usr/bin/python3.11", "python3 -m http.server 8080", "python3:http.server"),
            ("/usr/bin/python3.11", "python3 -Im http.server", "python3:http.server"),
            ("/usr/bin/python3.11", "python3 -c import os", "python3"),
            ("/usr/bin/python3.11", "python3 -uc import os", "python3"),
            ("/usr/bin/python3.11", "python3", "python3"),
            ("/usr/bin/python3.11", "python3 -", "python3"),
            ("/usr/bin/python3.11", "python3 /srv/orders/app.py", "python3:orders/app.py"),
            ("/usr/bin/python3.11", "python3 /app/main.py", "python3:main.py"),
            ("/usr/bin/python3.11", "python3 /tmp/tmpab12cd/server.py", "python3:server.py"),
            (
                "/usr/bin/python3.11",
                "python3 /usr/local/bin/uvicorn --port 80 orders.main:app",
                "python3:uvicorn/orders.main:app",
            ),
            (
                "/usr/bin/python3.11",
                "python3 -m gunicorn -b localhost:8000 shop:create_app()",
                "python3:gunicorn/shop:create_app__",
            ),
            ("/usr/bin/python3-config", "python3-config", "python3-config"),
            (
                "/usr/bin/node",
                "node --require ./t.js --max-old-space-size=64 /srv/cart/server.js",
                "node:cart/server.js",
            ),
            ("/usr/bin/nodejs", "nodejs index.js", "node:index.js"),
            ("/usr/bin/node", "node -e x", "node"),
            ("/usr/lib/jvm/java-17/bin/java", "java -Xmx1g -jar /srv/orders.jar --x", "java:orders.jar"),
            ("/usr/lib/jvm/java-17/bin/java", "java -cp a:b -Dx=y com.example.Main z", "java:com.example.Main"),
            ("/usr/lib/jvm/java-17/bin/java", "java @args -m shop/com.example.Main", "java:com.example.Main"),
            ("/usr/bin/ruby3.1", "ruby -I lib -r x web.rb", "ruby3:web.rb"),
            ("/usr/bin/perl", "perl -e 1", "perl"),
            ("/usr/bin/php8.2", "php -S 127.0.0.1:80 -t web router.php", "php8:router.php"),
            ("/usr/sbin/php-fpm8.2", "php-fpm: pool www", "php-fpm8.2"),
            ("/usr/bin/bash", "bash -x /opt/backup.sh", "bash:backup.sh"),
            ("/usr/bin/bash", "-bash", "bash"),
            ("/usr/bin/dash", "sh -c curl", "dash"),
            ("/usr/bin/dash", "sh -xec curl", "dash"),
            ("/usr/bin/shred", "shred x", "shred"),
            ("/usr/bin/python3.11", "python3 q7Zp0LxV9sT2mB4n", "python3"),
            ("/opt/my app/wei rd\x1b[0m", "x", "wei_rd__0m"),
        ];
        for (executable, line, expected) in cases {
            assert_eq!(name(Some(executable), &line.replace(' ', "\0"), "comm"), expected, "{line}");
        }
        // A process that overwrote its command line.
        assert_eq!(name(Some("/usr/bin/python3.11"), "gunicorn: worker [shop]", "gunicorn"), "python3");
        assert_eq!(name(Some("/bin/busybox"), "wget\0x", "wget"), "wget");
        assert_eq!(name(None, "", "kworker/0:1"), "kworker/0:1");
    }

    proptest! {
        #[test]
        fn any_command_line_gives_a_short_clean_name(line in "(\\PC|[\\x00 :/.-]){0,200}", which in 0..INTERPRETERS.len()) {
            let name = name(Some(INTERPRETERS[which].name), &line, "x");
            prop_assert!(!name.is_empty() && name.len() <= NAME_MAX, "{name}");
            prop_assert!(!name.chars().any(|c| c.is_control() || c == ' '), "{name}");
        }
    }
}
