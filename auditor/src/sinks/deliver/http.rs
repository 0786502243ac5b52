//! POST over HTTP/1.1, with TLS from rustls. No redirect is followed and no proxy is taken from the environment: what is sent, and
//! its signature, go where the configuration says and nowhere else.

use std::{fmt, time::Duration};

use ureq::{Agent, Error as HttpError, http::Uri};

use super::Refusal;
use crate::certificates::{Bundle, NoIssuers, client_tls};

/// Of an answer's body no more is read; bytes.
const ANSWER_BYTES: u64 = 64 * 1024;

/// An `http` or `https` URL without userinfo, query and fragment, so that it can be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint(String);

impl Endpoint {
    /// Checks a URL.
    ///
    /// # Errors
    /// What is wrong with it and what would be right; without the parts that may be secret.
    pub fn parse(text: &str) -> Result<Self, String> {
        let hint = "write one such as https://alerts.example/hook";
        let uri: Uri = text.trim().parse().map_err(|_| format!("is not a URL; {hint}"))?;
        let authority = uri.authority().filter(|authority| !authority.host().is_empty());
        let Some(authority) = authority else { return Err(format!("is not a whole URL; {hint}")) };
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(format!("is neither http nor https; {hint}"));
        }
        if authority.as_str().contains('@') {
            return Err("holds a user name or password; put an `Authorization` header into headers_file".to_owned());
        }
        if uri.query().is_some() || text.contains('#') {
            return Err("has a query or a fragment; put secrets into headers_file, and leave the rest out".to_owned());
        }
        Ok(Self(text.trim().trim_end_matches('/').to_owned()))
    }

    /// The same with a path behind it.
    #[must_use]
    pub fn join(&self, path: &str) -> Self {
        Self(format!("{}{path}", self.0))
    }

    /// The URL.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn is_tls(&self) -> bool {
        self.0.starts_with("https:")
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
#[error("{endpoint}: {source}")]
pub struct ClientError {
    endpoint: Endpoint,
    source: NoIssuers,
}

/// Sends to one place.
pub struct Client {
    agent: Agent,
    endpoint: Endpoint,
}

impl Client {
    /// A client for `endpoint`, whose attempts take at most `timeout` each. Certificates must lead to one in `issuers`, or to one
    /// that the operating system trusts.
    ///
    /// # Errors
    /// When there are no certificates of issuers and `endpoint` is `https`.
    pub fn new(endpoint: Endpoint, timeout: Duration, issuers: Option<&Bundle>) -> Result<Self, ClientError> {
        let mut config = Agent::config_builder()
            .timeout_global(Some(timeout))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .max_idle_connections(1)
            .user_agent(concat!("auditor/", env!("CARGO_PKG_VERSION")));
        if endpoint.is_tls() {
            let tls = client_tls(issuers).map_err(|source| ClientError { endpoint: endpoint.clone(), source })?;
            config = config.tls_config(tls);
        }
        Ok(Self { agent: config.build().new_agent(), endpoint })
    }

    /// Sends `body`; a status of the 200s is success.
    ///
    /// # Errors
    /// When it was not taken. What may have been taken all the same counts as not taken.
    pub fn post(&self, body: &[u8], headers: &[(&str, &str)]) -> Result<(), Refusal> {
        let mut request = self.agent.post(self.endpoint.as_str());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut response = request.send(body).map_err(|error| Refusal::later(reason(&error)))?;
        let status = response.status().as_u16();
        let after = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.trim().parse().ok());
        // Read so that the connection can be used again, and never more than a little.
        let _ = response.body_mut().with_config().limit(ANSWER_BYTES).read_to_vec();
        match status {
            200..=299 => Ok(()),
            300..=399 => Err(Refusal {
                retry: false,
                after: None,
                reason: format!("the receiver answered {status}; redirects are not followed: give the URL it leads to"),
            }),
            408 | 425 | 429 | 500..=599 => Err(Refusal {
                retry: true,
                after: after.map(Duration::from_secs),
                reason: format!("the receiver answered {status}"),
            }),
            _ => Err(Refusal { retry: false, after: None, reason: format!("the receiver answered {status}") }),
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// Own words: an error's text may hold what was sent.
fn reason(error: &HttpError) -> String {
    match error {
        HttpError::Timeout(_) => "no answer in time".to_owned(),
        HttpError::HostNotFound => "the receiver's name cannot be resolved".to_owned(),
        HttpError::ConnectionFailed => "no connection to the receiver".to_owned(),
        HttpError::Io(error) => format!("the connection failed ({})", crate::config::reason_of(error)),
        HttpError::Rustls(error) => format!("TLS failed ({error})"),
        HttpError::Tls(reason) => format!("TLS failed ({reason})"),
        HttpError::LargeResponseHeader(..) => "the answer's head is too large".to_owned(),
        _ => "the answer is not HTTP".to_owned(),
    }
}
