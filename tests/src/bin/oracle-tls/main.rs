//! The matrix's own TLS ends, on rustls: `oracle-tls server DIRECTORY MODE:VERSION...` and `oracle-tls client DIRECTORY`. What
//! they read and print is in `auditor_tests::tls`.

mod client;
mod server;

use std::{env, path::Path, sync::Arc};

use anyhow::{Result, bail};
use rustls::{
    RootCertStore,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match &arguments[..] {
        [verb, directory, endpoints @ ..] if verb == "server" => server::run(Path::new(directory), endpoints),
        [verb, directory] if verb == "client" => client::run(Path::new(directory)),
        _ => bail!("usage: oracle-tls server DIRECTORY MODE:VERSION... | client DIRECTORY"),
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn trusted(directory: &Path) -> Result<Arc<RootCertStore>> {
    let mut store = RootCertStore::empty();
    store.add(CertificateDer::from_pem_file(directory.join("authority.pem"))?)?;
    Ok(Arc::new(store))
}

/// A chain and its key.
fn identity(directory: &Path, name: &str) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let chain = CertificateDer::pem_file_iter(directory.join(format!("{name}.pem")))?.collect::<Result<Vec<_>, _>>()?;
    Ok((chain, PrivateKeyDer::from_pem_file(directory.join(format!("{name}.key")))?))
}
