//! Certificates, made anew for each run: a certificate authority with an intermediate, clients' certificates good and bad, and
//! the servers' own.

use std::{fmt, fs, net::IpAddr, path::Path, process::Command};

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use time::{Duration, OffsetDateTime};

use crate::{process::output, tools::program};

/// The file with the authority that servers and clients trust.
pub const AUTHORITY: &str = "authority.pem";
/// Name of the servers' certificate and key, which are in `server.pem` and `server.key`.
const SERVER: &str = "server";
/// What the certificate of [`ClientCertificate::Spiffe`] says its holder is.
pub const SPIFFE_ID: &str = "spiffe://interior.test/matrix/client";

/// What a client has to prove who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClientCertificate {
    /// Nothing.
    None,
    /// A certificate with a P-256 key.
    P256,
    /// A certificate with a 2048-bit RSA key.
    Rsa,
    /// A certificate with an Ed25519 key.
    Ed25519,
    /// A certificate with a SPIFFE ID.
    Spiffe,
    /// A certificate of an authority that no server trusts.
    Untrusted,
    /// A certificate that was good until yesterday.
    Expired,
}

impl ClientCertificate {
    /// Those that servers accept.
    pub const GOOD: [Self; 4] = [Self::P256, Self::Rsa, Self::Ed25519, Self::Spiffe];
    /// Those that are given.
    const GIVEN: [Self; 6] = [Self::P256, Self::Rsa, Self::Ed25519, Self::Spiffe, Self::Untrusted, Self::Expired];

    /// Whether a server that looks at it must accept it.
    #[must_use]
    pub fn is_good(self) -> bool {
        Self::GOOD.contains(&self)
    }

    /// Whether there is one.
    #[must_use]
    pub fn is_given(self) -> bool {
        self != Self::None
    }

    /// Name of its files, and the common name of its subject.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "-",
            Self::P256 => "p256",
            Self::Rsa => "rsa",
            Self::Ed25519 => "ed25519",
            Self::Spiffe => "spiffe",
            Self::Untrusted => "untrusted",
            Self::Expired => "expired",
        }
    }

    fn key(self) -> Key {
        match self {
            Self::Rsa => Key::Rsa,
            Self::Ed25519 => Key::Ed25519,
            _ => Key::P256,
        }
    }
}

impl fmt::Display for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Writes all certificates and keys into `directory`: `NAME.pem` with the chain, leaf first, and `NAME.key`, PKCS #8.
///
/// # Errors
/// When openssl is missing or a file cannot be written.
pub fn create(directory: &Path) -> Result<()> {
    let root = authority("Interior Root", None)?;
    let intermediate = authority("Interior Intermediate", Some(&root))?;
    let stranger = authority("Stranger Root", None)?;
    write(directory, AUTHORITY, &root.pem)?;
    for certificate in ClientCertificate::GIVEN {
        let issuer = if certificate == ClientCertificate::Untrusted { &stranger } else { &intermediate };
        let mut params = leaf(certificate.name(), ExtendedKeyUsagePurpose::ClientAuth)?;
        if certificate == ClientCertificate::Spiffe {
            params.subject_alt_names.push(SanType::URI(SPIFFE_ID.try_into()?));
        }
        if certificate == ClientCertificate::Expired {
            params.not_after = OffsetDateTime::now_utc() - Duration::days(1);
        }
        save(directory, certificate.name(), &params, issuer, certificate.key())?;
    }
    let mut params = leaf(SERVER, ExtendedKeyUsagePurpose::ServerAuth)?;
    params.subject_alt_names.push(SanType::DnsName("localhost".try_into()?));
    for address in ["127.0.0.1", "::1"] {
        params.subject_alt_names.push(SanType::IpAddress(address.parse::<IpAddr>()?));
    }
    save(directory, SERVER, &params, &intermediate, Key::P256)
}

/// A certificate authority.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    root: bool,
}

fn authority(name: &str, parent: Option<&Authority>) -> Result<Authority> {
    let mut params = named(name)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::from_pem(&Key::P256.generate()?)?;
    let certificate = match parent {
        Some(parent) => params.signed_by(&key, &parent.issuer)?,
        None => params.self_signed(&key)?,
    };
    Ok(Authority { issuer: Issuer::new(params, key), pem: certificate.pem(), root: parent.is_none() })
}

fn leaf(name: &str, usage: ExtendedKeyUsagePurpose) -> Result<CertificateParams> {
    let mut params = named(name)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn named(name: &str) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = OffsetDateTime::now_utc() - Duration::days(30);
    params.not_after = OffsetDateTime::now_utc() + Duration::days(365);
    Ok(params)
}

fn save(directory: &Path, name: &str, params: &CertificateParams, issuer: &Authority, key: Key) -> Result<()> {
    let key = key.generate()?;
    let certificate = params.signed_by(&KeyPair::from_pem(&key)?, &issuer.issuer)?;
    let chain = if issuer.root { certificate.pem() } else { certificate.pem() + &issuer.pem };
    write(directory, &format!("{name}.pem"), &chain)?;
    write(directory, &format!("{name}.key"), &key)
}

fn write(directory: &Path, name: &str, text: &str) -> Result<()> {
    let file = directory.join(name);
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// A kind of key.
#[derive(Clone, Copy)]
enum Key {
    P256,
    Rsa,
    Ed25519,
}

impl Key {
    /// A new key, PKCS #8 in PEM. By openssl: what makes the certificates makes no RSA keys, and Ed25519 keys in a later form
    /// of PKCS #8 that few read.
    fn generate(self) -> Result<String> {
        let words: &[&str] = match self {
            Self::P256 => &["EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
            Self::Rsa => &["RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
            Self::Ed25519 => &["ED25519"],
        };
        output(Command::new(program("openssl")?).args(["genpkey", "-quiet", "-algorithm"]).args(words))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verify(directory: &Path, name: &str) -> String {
        let file = directory.join(format!("{name}.pem"));
        let mut command = Command::new(program("openssl").unwrap());
        command.arg("verify").arg("-CAfile").arg(directory.join(AUTHORITY)).arg("-untrusted").arg(&file).arg(&file);
        let output = command.output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    #[test]
    fn good_certificates_verify_and_bad_ones_do_not() {
        let directory = tempfile::TempDir::new().unwrap();
        create(directory.path()).unwrap();
        for name in ClientCertificate::GOOD.map(ClientCertificate::name).into_iter().chain([SERVER]) {
            let said = verify(directory.path(), name);
            assert!(said.trim_end().ends_with(": OK"), "{name}: {said}");
        }
        let (untrusted, expired) = (verify(directory.path(), "untrusted"), verify(directory.path(), "expired"));
        assert!(untrusted.contains("unable to get local issuer certificate"), "{untrusted}");
        assert!(expired.contains("certificate has expired"), "{expired}");
    }
}
