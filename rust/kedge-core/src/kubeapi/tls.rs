// SPDX-License-Identifier: Apache-2.0
//! TLS 1.3 towards clients: our certificate, and theirs when they have one.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, crypto::ring};

use super::config::Config;
use super::policy::Identity;
use crate::{Error, Kind, Result, pki};

/// The server side's settings: HTTP/2 and HTTP/1.1, client certificates optional but verified.
pub(super) fn server_config(config: &Config) -> Result<Arc<ServerConfig>> {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| invalid("TLS", &error))?;
    let builder = if config.client_ca.is_empty() {
        builder.with_no_client_auth()
    } else {
        let roots = Arc::new(roots(&config.client_ca)?);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider)
            .allow_unauthenticated()
            .build()
            .map_err(|error| invalid("client CA", &error))?;
        builder.with_client_cert_verifier(verifier)
    };
    let chain = certificates(&config.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(config.key.as_bytes())
        .map_err(|error| invalid("server key", &error))?;
    let mut tls = builder
        .with_single_cert(chain, key)
        .map_err(|error| invalid("server certificate", &error))?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    tls.max_early_data_size = 0;
    Ok(Arc::new(tls))
}

/// The authorities in a PEM text.
pub(crate) fn roots(pem: &str) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(pem)? {
        store.add(certificate).map_err(|error| invalid("CA certificate", &error))?;
    }
    Ok(store)
}

/// The certificates in a PEM text, at least one.
pub(crate) fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<std::result::Result<_, _>>()
        .map_err(|error| invalid("certificate", &error))?;
    if found.is_empty() {
        return Err(Error::new(Kind::Certificate, "certificate: no PEM block CERTIFICATE found"));
    }
    Ok(found)
}

/// Who a verified client certificate names: CN is the user, O the groups.
pub(super) fn identity(certificate: &[u8]) -> Result<Identity> {
    let details = pki::inspect_der(certificate)?;
    if details.common_name.is_empty() {
        return Err(Error::new(Kind::Unauthorized, "client certificate: no common name"));
    }
    Ok(Identity { user: details.common_name, groups: details.organizations })
}

fn invalid(what: &str, error: &dyn std::fmt::Display) -> Error {
    Error::new(Kind::Certificate, format!("{what}: cannot be used: {error}"))
}
