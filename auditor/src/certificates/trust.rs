//! Trust bundles, and whether a chain leads to one of their certificates.

use std::{collections::HashSet, fs::File, io::Read, path::PathBuf, time::Duration};

use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime, pem::PemObject};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, Error, KeyUsage, anchor_from_trusted_cert};

use super::{Certificate, read};
use crate::config::reason_of;

/// Largest bundle that is read; those of operating systems take a quarter of a MiB.
const BUNDLE_BYTES: u64 = 4 << 20;
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";

/// Issuers that are trusted, from one PEM file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// The file.
    pub file: PathBuf,
    certificates: Vec<CertificateDer<'static>>,
}

/// What a certificate is to be good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Purpose {
    /// To prove who a client is (RFC 5280 section 4.2.1.12, id-kp-clientAuth).
    Client,
    /// To prove who a server is (id-kp-serverAuth).
    Server,
}

/// Whether a chain leads to an issuer that is trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trust {
    /// It does.
    Trusted,
    /// It does not, for this reason.
    Untrusted(&'static str),
    /// Not known: no bundle is configured, or the chain cannot be checked here.
    Unknown,
}

impl Bundle {
    /// Reads a bundle.
    ///
    /// # Errors
    /// What is wrong, with the line, and what to do.
    pub fn read(file: impl Into<PathBuf>) -> Result<Self, String> {
        let file = file.into();
        let fail = |problem: String| format!("`{}` {problem}", file.display());
        let unreadable = |error: std::io::Error| {
            fail(format!("cannot be read ({}); name a PEM file the auditor's user can read", reason_of(&error)))
        };
        let mut text = Vec::new();
        let opened = File::open(&file).map_err(unreadable)?;
        let read = opened.take(BUNDLE_BYTES + 1).read_to_end(&mut text).map_err(unreadable)?;
        if read as u64 > BUNDLE_BYTES {
            return Err(fail("is larger than 4MiB; name the file with the issuers' certificates alone".to_owned()));
        }
        let certificates = certificates(&text).map_err(fail)?;
        Ok(Self { file, certificates })
    }

    /// The certificates, as DER.
    pub fn certificates(&self) -> impl Iterator<Item = &[u8]> {
        self.certificates.iter().map(|certificate| &**certificate)
    }

    /// How many certificates are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.certificates.len()
    }

    /// Never: a bundle without certificates cannot be read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.certificates.is_empty()
    }
}

fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let mut certificates = Vec::new();
    for section in CertificateDer::pem_slice_iter(text) {
        let line = || line_of(text, certificates.len());
        let certificate = section.map_err(|error| {
            format!(
                "line {}: is not PEM ({}); export it again, in base64 between BEGIN and END lines",
                line(),
                short(&error)
            )
        })?;
        if let Err(error) = anchor_from_trusted_cert(&certificate) {
            return Err(format!(
                "line {}: certificate {} cannot be trusted as an issuer ({error:?}); remove it, or export it again as X.509",
                line(),
                certificates.len() + 1
            ));
        }
        certificates.push(certificate);
    }
    if certificates.is_empty() {
        return Err(format!("holds no certificate; name a PEM file with `{BEGIN}` in it"));
    }
    Ok(certificates)
}

/// The line on which the certificate behind `before` others begins.
fn line_of(text: &[u8], before: usize) -> usize {
    let begins = |line: &[u8]| line.trim_ascii() == BEGIN.as_bytes();
    let mut lines = text.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| begins(line));
    lines.nth(before).map_or(1, |(at, _)| at + 1)
}

/// The parser's reason without the file's bytes, which may be a key.
fn short(error: &rustls_pki_types::pem::Error) -> &'static str {
    use rustls_pki_types::pem::Error;
    match error {
        Error::MissingSectionEnd { .. } => "a section has no END line",
        Error::IllegalSectionStart { .. } => "a BEGIN line is malformed",
        Error::Base64Decode(_) => "a section is not base64",
        _ => "it cannot be read",
    }
}

/// The certificates of all bundles.
#[derive(Debug)]
pub(super) struct Anchors {
    anchors: Vec<TrustAnchor<'static>>,
    /// Those of them as they stand: what is pinned needs to lead nowhere.
    certificates: HashSet<CertificateDer<'static>>,
    /// One of them has a key that signatures cannot be checked with.
    short_key: bool,
}

impl Anchors {
    pub(super) fn new(bundles: &[Bundle]) -> Self {
        let certificates = || bundles.iter().flat_map(|bundle| &bundle.certificates);
        let anchors = certificates().filter_map(|certificate| anchor_from_trusted_cert(certificate).ok());
        Self {
            anchors: anchors.map(|anchor| anchor.to_owned()).collect(),
            certificates: certificates().cloned().collect(),
            short_key: certificates().any(|certificate| read::has_short_rsa_key(certificate)),
        }
    }

    /// Whether a chain leads to one of these. A leaf that expired is checked as of when it was valid: that it expired is
    /// another matter.
    pub(super) fn check(
        &self,
        leaf: &[u8],
        issuers: &[Box<[u8]>],
        whole: bool,
        purpose: Purpose,
        facts: &Certificate,
        now: i64,
    ) -> Trust {
        if self.anchors.is_empty() || facts.not_before > facts.not_after {
            return Trust::Unknown;
        }
        if self.certificates.contains(&CertificateDer::from(leaf)) {
            return Trust::Trusted;
        }
        let time = now.clamp(facts.not_before, facts.not_after);
        let Ok(time) = u64::try_from(time) else { return Trust::Unknown };
        let time = UnixTime::since_unix_epoch(Duration::from_secs(time));
        let leaf = CertificateDer::from(leaf);
        let between: Vec<_> = issuers.iter().map(|issuer| CertificateDer::from(issuer.as_ref())).collect();
        let usage = match purpose {
            Purpose::Client => KeyUsage::client_auth(),
            Purpose::Server => KeyUsage::server_auth(),
        };
        let checked = EndEntityCert::try_from(&leaf).and_then(|leaf| {
            leaf.verify_for_usage(ALL_VERIFICATION_ALGS, &self.anchors, &between, time, usage, None, None).map(drop)
        });
        let short_key = || self.short_key || issuers.iter().any(|issuer| read::has_short_rsa_key(issuer));
        match checked {
            Ok(()) => Trust::Trusted,
            Err(Error::InvalidSignatureForPublicKey) if short_key() => Trust::Unknown,
            Err(_) if !whole => Trust::Unknown,
            Err(error) => untrusted(&error).map_or(Trust::Unknown, Trust::Untrusted),
        }
    }
}

/// What is wrong with a chain; `None` where the checker met something it does not know, which says nothing.
fn untrusted(error: &Error) -> Option<&'static str> {
    match error {
        Error::UnknownIssuer => Some("does not lead to a trusted issuer"),
        Error::InvalidSignatureForPublicKey => Some("was not signed by the issuer it names"),
        Error::CertExpired { .. } => Some("an issuer's certificate has expired"),
        Error::CertNotValidYet { .. } => Some("an issuer's certificate is not valid yet"),
        Error::CaUsedAsEndEntity => Some("is an issuer's certificate"),
        Error::EndEntityUsedAsCa => Some("was issued with a certificate that may not issue"),
        Error::PathLenConstraintViolated | Error::NameConstraintViolation => Some("its issuer may not issue it"),
        Error::RequiredEkuNotFoundContext(_) => Some("is not made for this purpose"),
        _ => None,
    }
}
