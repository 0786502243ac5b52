//! Certificates for tests, made when they are needed.

use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};

/// 2026-11-22T00:00:00Z, the moment of the tests; seconds since the Unix epoch.
pub(crate) const NOW: i64 = 1_795_305_600;
pub(crate) const DAY: i64 = 86_400;

/// An issuer of certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    der: Box<[u8]>,
    pem: String,
}

/// What a certificate shall say.
pub(crate) struct Wanted<'a> {
    pub(crate) name: &'a str,
    /// The common name, where it is not `name`.
    pub(crate) subject: Option<&'a str>,
    pub(crate) uris: &'a [&'a str],
    /// Seconds from [`NOW`].
    pub(crate) from: i64,
    /// Seconds from [`NOW`].
    pub(crate) until: i64,
    pub(crate) purpose: Option<ExtendedKeyUsagePurpose>,
}

impl Default for Wanted<'_> {
    fn default() -> Self {
        Self { name: "cart", subject: None, uris: &[], from: -DAY, until: 90 * DAY, purpose: None }
    }
}

impl Wanted<'_> {
    fn parameters(&self) -> CertificateParams {
        let mut parameters =
            CertificateParams::new(vec![format!("{}.internal", self.name.replace(' ', "-"))]).expect("DNS names");
        parameters.distinguished_name.push(DnType::CommonName, self.subject.unwrap_or(self.name));
        parameters.subject_alt_names.push(SanType::IpAddress([10, 0, 0, 1].into()));
        let uri = |uri: &&str| SanType::URI((*uri).try_into().expect("ASCII"));
        parameters.subject_alt_names.extend(self.uris.iter().map(uri));
        let now = rcgen::date_time_ymd(2026, 11, 22);
        let after = |seconds: i64| match Duration::from_secs(seconds.unsigned_abs()) {
            span if seconds < 0 => now - span,
            span => now + span,
        };
        (parameters.not_before, parameters.not_after) = (after(self.from), after(self.until));
        parameters.extended_key_usages.extend(self.purpose.clone());
        parameters
    }

    /// Signed by its own key.
    pub(crate) fn self_signed(&self) -> Box<[u8]> {
        let key = KeyPair::generate().expect("a key");
        self.parameters().self_signed(&key).expect("a certificate").der().as_ref().into()
    }
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        Self::valid(name, -3650 * DAY, 3650 * DAY)
    }

    /// One whose own certificate holds from `from` to `until`, seconds from [`NOW`].
    pub(crate) fn valid(name: &str, from: i64, until: i64) -> Self {
        let (parameters, key) = Self::parameters(name, from, until);
        let certificate = parameters.self_signed(&key).expect("a certificate");
        Self { der: certificate.der().as_ref().into(), pem: certificate.pem(), issuer: Issuer::new(parameters, key) }
    }

    fn parameters(name: &str, from: i64, until: i64) -> (CertificateParams, KeyPair) {
        let mut parameters = Wanted { name, from, until, ..Wanted::default() }.parameters();
        parameters.subject_alt_names.clear();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (parameters, KeyPair::generate().expect("a key"))
    }

    /// An authority below this one.
    pub(crate) fn below(&self, name: &str, from: i64, until: i64) -> Self {
        let (parameters, key) = Self::parameters(name, from, until);
        let certificate = parameters.signed_by(&key, &self.issuer).expect("a certificate");
        Self { der: certificate.der().as_ref().into(), pem: certificate.pem(), issuer: Issuer::new(parameters, key) }
    }

    /// Its own certificate.
    pub(crate) fn der(&self) -> Box<[u8]> {
        self.der.clone()
    }

    /// Its own certificate, as in a bundle.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for someone.
    pub(crate) fn issue(&self, wanted: &Wanted<'_>) -> Box<[u8]> {
        let key = KeyPair::generate().expect("a key");
        wanted.parameters().signed_by(&key, &self.issuer).expect("a certificate").der().as_ref().into()
    }
}
