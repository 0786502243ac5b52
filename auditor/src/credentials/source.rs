//! Where keys of token issuers come from: files and URLs. Both are bounded in size, and a URL in time.

use std::{
    fmt,
    fs::File,
    io::Read,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use ureq::{Agent, http::Uri};
use zeroize::Zeroizing;

use super::keys::{KeySet, Origin};
use crate::{
    certificates::{Bundle, NoIssuers, client_tls},
    config::reason_of,
};

/// Largest key set that is read.
const SET_BYTES: usize = 512 << 10;
/// A URL has to answer within this time, whole.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How often keys are read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// While all is well.
    pub(super) usual: Duration,
    /// At least this long between two tries, also while they fail or a token names a key that is not there.
    pub(super) least: Duration,
}

pub(super) const FILE_PACE: Pace = Pace { usual: Duration::from_secs(10), least: Duration::from_secs(1) };
pub(super) const URL_PACE: Pace = Pace { usual: Duration::from_secs(600), least: Duration::from_secs(30) };

/// Where the keys of an issuer are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A file with a JSON Web Key Set.
    File(PathBuf),
    /// A URL that answers with one.
    Url {
        /// `https://...`, or `http://` to the node itself.
        url: Box<str>,
        /// Issuers that the server's certificate must lead to; `None`: those the system trusts.
        trust: Option<Bundle>,
    },
}

impl KeySource {
    /// A URL that keys may be asked of: `https`, or `http` to loopback; without user and password.
    ///
    /// # Errors
    /// What is wrong with it and what would be right.
    pub fn url(url: &str, trust: Option<Bundle>) -> Result<Self, String> {
        const RIGHT: &str = "write one such as https://issuer.example/jwks.json";
        let uri: Uri = url.parse().map_err(|_| format!("is not a URL; {RIGHT}"))?;
        let (Some(scheme), Some(host)) = (uri.scheme_str(), uri.host()) else {
            return Err(format!("is not a URL; {RIGHT}"));
        };
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(format!("holds a user or password, which ends up in logs; {RIGHT}"));
        }
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let loopback = bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        match scheme {
            "https" => {}
            "http" if loopback => {}
            "http" => {
                return Err(
                    "is not encrypted: who is on the way could put in keys of its own; use https, or a host that is \
                            this node's own loopback"
                        .to_owned(),
                );
            }
            _ => return Err(format!("is neither https nor http; {RIGHT}")),
        }
        Ok(Self::Url { url: url.into(), trust })
    }

    /// It may take long to answer.
    pub(super) fn is_slow(&self) -> bool {
        matches!(self, Self::Url { .. })
    }

    pub(super) fn origin(&self) -> Origin {
        if self.is_slow() { Origin::Url } else { Origin::File }
    }

    /// The text of the set. It may hold secrets.
    pub(super) fn get(&self) -> Result<Zeroizing<Vec<u8>>, String> {
        match self {
            Self::File(file) => text(file),
            Self::Url { url, trust } => fetched(url, trust.as_ref()),
        }
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => write!(f, "{}", file.display()),
            Self::Url { url, .. } => f.write_str(url),
        }
    }
}

/// Reads a file with keys once, to see that it can be used; gives the number of keys.
///
/// # Errors
/// What is wrong with it, and what to do.
pub fn read_file(file: &Path) -> Result<usize, String> {
    let set = text(file).and_then(|text| KeySet::read(&text, Origin::File).map_err(str::to_owned));
    set.map(|set| set.len()).map_err(|problem| format!("`{}` {problem}", file.display()))
}

fn text(file: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let unreadable = |error: std::io::Error| {
        format!("cannot be read ({}); name a file the auditor's user can read", reason_of(&error))
    };
    let opened = File::open(file).map_err(unreadable)?;
    if !opened.metadata().map_err(unreadable)?.is_file() {
        return Err("is not a regular file; name one with a JSON Web Key Set".to_owned());
    }
    // Whole from the start: a buffer that grows leaves copies behind.
    let mut text = Zeroizing::new(Vec::with_capacity(SET_BYTES + 1));
    let read = opened.take(SET_BYTES as u64 + 1).read_to_end(&mut text).map_err(unreadable)?;
    if read > SET_BYTES {
        return Err("is larger than 512KiB; name a file with a JSON Web Key Set alone".to_owned());
    }
    Ok(text)
}

fn fetched(url: &str, trust: Option<&Bundle>) -> Result<Zeroizing<Vec<u8>>, String> {
    let failed = |error: ureq::Error| format!("no answer that could be used ({error})");
    let agent = agent(url, trust).map_err(|error| error.to_string())?;
    let mut response = agent.get(url).call().map_err(failed)?;
    response.body_mut().with_config().limit(SET_BYTES as u64).read_to_vec().map(Zeroizing::new).map_err(failed)
}

/// A client for one request: keys are asked for every few minutes, and a connection that stays open serves nothing.
fn agent(url: &str, trust: Option<&Bundle>) -> Result<Agent, NoIssuers> {
    // No redirect is followed and no proxy asked: the host that is configured answers, or none does.
    let mut config = Agent::config_builder()
        .timeout_global(Some(TIMEOUT))
        .max_redirects(0)
        .proxy(None)
        .user_agent(concat!("auditor/", env!("CARGO_PKG_VERSION")));
    if url.starts_with("https:") {
        config = config.tls_config(client_tls(trust)?);
    }
    Ok(config.build().new_agent())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_urls_that_nobody_can_change_on_the_way_are_taken() {
        for url in [
            "https://issuer.example/jwks.json",
            "https://10.0.0.1:8443/keys",
            "http://127.0.0.1:8080/jwks",
            "http://localhost/jwks",
            "http://[::1]:80/jwks",
        ] {
            assert!(KeySource::url(url, None).is_ok(), "{url}");
        }
        for (url, reason) in [
            ("http://issuer.example/jwks.json", "is not encrypted"),
            ("http://127.0.0.1.example/jwks", "is not encrypted"),
            ("https://me:hunter2@issuer.example/", "holds a user or password"),
            ("ftp://issuer.example/", "is neither https nor http"),
            ("issuer.example/jwks.json", "is not a URL"),
            ("", "is not a URL"),
        ] {
            let error = KeySource::url(url, None).expect_err(url);
            assert!(error.starts_with(reason) && !error.contains("hunter2"), "{url}: {error}");
        }
    }

    #[test]
    fn files_that_hold_no_keys_are_told_apart() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("keys.json");
        let message = || read_file(&path).expect_err("no keys");
        assert!(message().contains("keys.json` cannot be read (no such file"), "{}", message());
        for (text, reason) in [
            ("", "is no JSON Web Key Set"),
            ("[]", "is no JSON Web Key Set"),
            (r#"{"keys":[]}"#, "holds no key"),
            (r#"{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}"#, "holds no key"),
        ] {
            std::fs::write(&path, text).expect("written");
            assert!(message().contains(reason), "{}", message());
        }
        std::fs::write(&path, vec![b' '; 600 << 10]).expect("written");
        assert!(message().contains("is larger than 512KiB"), "{}", message());
        assert!(read_file(directory.path()).expect_err("a directory").contains("is not a regular file"));
        std::fs::write(&path, r#"{"keys":[{"kty":"oct","k":"c2VjcmV0"},{"kty":"odd"},7]}"#).expect("written");
        assert_eq!(read_file(&path), Ok(1));
    }
}
