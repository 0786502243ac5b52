//! TLS of connections that the auditor makes itself: to receivers of findings, and for the keys of token issuers.

use std::sync::Arc;

use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::Bundle;

/// There is nothing to check a server's certificate with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this machine has no certificates of issuers; name a PEM file with ca_file")]
pub struct NoIssuers;

/// Settings of such a connection. The server's certificate must lead to one in `issuers`, or to one that the operating system
/// trusts.
///
/// # Errors
/// When no issuers are given and the operating system has none.
pub(crate) fn client_tls(issuers: Option<&Bundle>) -> Result<TlsConfig, NoIssuers> {
    let own = |der: &[u8]| Certificate::from_der(der).to_owned();
    let roots: Vec<Certificate<'static>> = match issuers {
        Some(bundle) => bundle.certificates().map(own).collect(),
        None => rustls_native_certs::load_native_certs().certs.iter().map(|certificate| own(certificate)).collect(),
    };
    if roots.is_empty() {
        return Err(NoIssuers);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = TlsConfig::builder().root_certs(RootCerts::Specific(Arc::new(roots)));
    Ok(config.unversioned_rustls_crypto_provider(provider).build())
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpListener,
        path::Path,
        thread,
    };

    use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
    use rustls::{ServerConfig, ServerConnection, StreamOwned};
    use rustls_pki_types::PrivateKeyDer;
    use ureq::Agent;

    use super::*;

    /// An issuer whose certificate is in the file.
    fn issuer(file: &Path) -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed");
        std::fs::write(file, issuer.pem()).expect("written");
        issuer
    }

    /// A server for one request. Its port.
    fn serve(issuer: &CertifiedIssuer<'static, KeyPair>) -> u16 {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
        let certificate = params.signed_by(&key, issuer).expect("signed");
        let private = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.expect("versions").with_no_client_auth();
        let config = config.with_single_cert(vec![certificate.der().clone()], private).expect("a certificate");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        thread::spawn(move || {
            let (stream, _) = listener.accept().expect("a connection");
            let connection = ServerConnection::new(Arc::new(config)).expect("a connection");
            let mut stream = StreamOwned::new(connection, stream);
            // A client that does not trust it ends the handshake.
            if stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {
                drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"));
            }
        });
        port
    }

    #[test]
    fn a_server_must_lead_to_the_issuers_that_are_given() {
        let directory = tempfile::tempdir().expect("a directory");
        let (ours, theirs) = (directory.path().join("ours.pem"), directory.path().join("theirs.pem"));
        let issuer_of_ours = issuer(&ours);
        issuer(&theirs);
        for (file, taken) in [(&ours, true), (&theirs, false)] {
            let bundle = Bundle::read(file).expect("a bundle");
            let tls = client_tls(Some(&bundle)).expect("issuers");
            let agent = Agent::config_builder().tls_config(tls).proxy(None).build().new_agent();
            let answer = agent.get(format!("https://localhost:{}/", serve(&issuer_of_ours))).call();
            assert_eq!(answer.is_ok(), taken, "{}: {answer:?}", file.display());
        }
    }
}
