//! An authority and what it signed: short and long, because a long certificate does not fit the bytes that are copied of a handshake.

use std::{fs, path::Path};

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};

/// The authority's certificate.
pub(super) const AUTHORITY: &str = "authority.der";
/// Names in a long certificate: some 8 KB.
const NAMES: usize = 250;

/// Writes `NAME.der` and `NAME.key` for the servers and the client, each with a certificate that is short and one that is long.
pub(super) fn create(directory: &Path) -> Result<()> {
    let mut params = named("authority")?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate()?;
    fs::write(directory.join(AUTHORITY), params.self_signed(&key)?.der())?;
    let authority = Issuer::new(params, key);
    for (name, names) in [("server", 0), ("client", 0), ("long-server", NAMES), ("long-client", NAMES)] {
        let mut params = named(name)?;
        params.subject_alt_names.push(SanType::DnsName("localhost".try_into()?));
        for number in 0..names {
            params.subject_alt_names.push(SanType::DnsName(format!("name-{number}.of.the.guest.test").try_into()?));
        }
        let key = KeyPair::generate()?;
        fs::write(directory.join(name).with_extension("der"), params.signed_by(&key, &authority)?.der())?;
        fs::write(directory.join(name).with_extension("key"), key.serialize_der())?;
    }
    Ok(())
}

fn named(name: &str) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}
