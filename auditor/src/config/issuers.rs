//! Issuers of tokens whose signatures are checked: `jwt.issuers`.

use serde_saphyr::Spanned;

use super::{
    ConfigError,
    raw::{RawIssuer, Text},
    resolve::Reader,
    value,
};
use crate::credentials::{
    keys::Algorithm,
    verify::{ISSUER_BYTES, IssuerSettings, KeySource, read_file},
};

/// More than any installation has; each costs a request every few minutes.
const ISSUERS: usize = 64;

impl Reader<'_> {
    pub(super) fn issuers(&self, raw: Vec<Spanned<RawIssuer>>) -> Result<Vec<IssuerSettings>, ConfigError> {
        let mut issuers: Vec<IssuerSettings> = Vec::with_capacity(raw.len().min(ISSUERS));
        for entry in raw {
            let wrong = |problem: &str| self.wrong("jwt.issuers", &entry, problem.to_owned());
            if issuers.len() == ISSUERS {
                return Err(wrong("there are more than 64; name those whose tokens are used here"));
            }
            let issuer = self.issuer(&entry)?;
            if issuers.iter().any(|known| known.issuer == issuer.issuer) {
                return Err(wrong("this issuer is there twice; put its keys into one set"));
            }
            issuers.push(issuer);
        }
        Ok(issuers)
    }

    fn issuer(&self, entry: &Spanned<RawIssuer>) -> Result<IssuerSettings, ConfigError> {
        let raw = &entry.value;
        let wrong = |problem: &str| self.wrong("jwt.issuers", entry, problem.to_owned());
        let Some(name) = &raw.issuer else {
            return Err(wrong("`issuer` is missing; write the claim `iss` of its tokens"));
        };
        let issuer = issuer_name(&name.value).map_err(|problem| self.wrong("jwt.issuers.issuer", name, problem))?;
        let trust = self.optional("jwt.issuers.ca_file", &raw.ca_file, value::bundle)?;
        let source = match (&raw.jwks_file, &raw.jwks_url) {
            (Some(file), None) if trust.is_none() => {
                read_file(file.value.as_ref()).map_err(|problem| self.wrong("jwt.issuers.jwks_file", file, problem))?;
                KeySource::File(file.value.clone().into())
            }
            (Some(_), None) => return Err(wrong("`ca_file` is for `jwks_url`; remove it")),
            (None, Some(url)) => KeySource::url(&url.value, trust)
                .map_err(|problem| self.wrong("jwt.issuers.jwks_url", url, format!("the URL {problem}")))?,
            _ => return Err(wrong("it takes one of `jwks_file` and `jwks_url`: where the issuer's keys are")),
        };
        let algorithms = self.list("jwt.issuers.algorithms", &raw.algorithms, algorithm)?;
        if algorithms.as_ref().is_some_and(Vec::is_empty) {
            return Err(wrong("`algorithms` is empty; leave it out, or name what the issuer signs with"));
        }
        Ok(IssuerSettings { issuer: issuer.into(), source, algorithms })
    }

    fn optional<T>(
        &self,
        key: &str,
        text: &Text,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        let mut value = None;
        self.set(&mut value, key, text, |text| parse(text).map(Some))?;
        Ok(value)
    }
}

fn issuer_name(text: &str) -> Result<String, String> {
    let fits = !text.is_empty() && text.len() <= ISSUER_BYTES && text.bytes().all(|byte| byte.is_ascii_graphic());
    if !fits {
        return Err(format!(
            "`{}` is no issuer; write the claim `iss` as it stands in tokens, at most {ISSUER_BYTES} characters",
            value::shown(text)
        ));
    }
    Ok(text.to_owned())
}

fn algorithm(text: &str) -> Result<Algorithm, String> {
    text.parse().map_err(|()| {
        let known = Algorithm::ALL.map(|(name, _)| name).join(", ");
        format!("`{}` is no algorithm that can be checked; known are {known}", value::shown(text))
    })
}
