// SPDX-License-Identifier: Apache-2.0
//! Who may talk to whom: TLS 1.3 only, ring, certificates of the cluster's own authority.
//!
//! A node that joins has no certificate yet, so the server asks for one without insisting; the
//! link itself does insist. Tickets let both ends resume, which saves most of a handshake's bytes.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, RootCertStore, ServerConfig, version::TLS13,
};

use crate::pki::{self, Details};
use crate::{Error, Kind, Result};

/// The group of a node's certificate.
pub(crate) const NODES_GROUP: &str = "system:nodes";
/// The group of API servers, which may reach the services of nodes.
pub(crate) const API_SERVERS_GROUP: &str = "kedge:api-servers";
/// The start of its common name.
pub(crate) const NODE_PREFIX: &str = "system:node:";

/// A certificate chain and its key, in PEM.
#[derive(Clone, serde::Deserialize)]
pub struct Identity {
    /// The chain.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

/// The server's side.
pub(crate) fn server_config(identity: &Identity, ca: &str) -> Result<Arc<ServerConfig>> {
    let provider = provider();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots(ca)?), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .map_err(|error| refused(format!("authority of nodes: {error}")))?;
    let (chain, key) = parse(identity)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| refused(format!("TLS 1.3: {error}")))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|error| refused(format!("certificate of the hub: {error}")))?;
    config.ticketer = rustls::crypto::ring::Ticketer::new()
        .map_err(|error| refused(format!("session tickets: {error}")))?;
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}

/// The node's side.
pub(crate) fn client_config(identity: &Identity, ca: &str) -> Result<Arc<ClientConfig>> {
    let (chain, key) = parse(identity)?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| refused(format!("TLS 1.3: {error}")))?
        .with_root_certificates(roots(ca)?)
        .with_client_auth_cert(chain, key)
        .map_err(|error| refused(format!("certificate of the node: {error}")))?;
    config.resumption = Resumption::in_memory_sessions(2);
    Ok(Arc::new(config))
}

/// The node named by a certificate, `system:node:NAME` in the group `system:nodes`, in its time; and
/// all that it says.
pub(crate) fn node_of(certificate: &CertificateDer<'_>, now: i64) -> Result<(String, Details)> {
    let details = pki::inspect_der(certificate)?;
    let named = details.common_name.strip_prefix(NODE_PREFIX).filter(|name| !name.is_empty());
    let Some(name) = named.filter(|_| details.organizations.iter().any(|o| o == NODES_GROUP))
    else {
        return Err(refused(format!(
            "not a node's certificate: wanted {NODE_PREFIX}NAME of {NODES_GROUP}, got: {}",
            details.common_name
        )));
    };
    // A resumed session is not verified anew, so its certificate may have run out meanwhile.
    if now > details.not_after {
        let message = format!("the certificate of {name} has expired: join it again with a token");
        return Err(refused(message));
    }
    Ok((name.to_owned(), details))
}

/// Whether a certificate is that of an API server, in its time.
pub(crate) fn is_api_server(certificate: &CertificateDer<'_>, now: i64) -> Result<()> {
    let details = pki::inspect_der(certificate)?;
    if !details.organizations.iter().any(|group| group == API_SERVERS_GROUP) {
        let message = format!(
            "not an API server's certificate: wanted one of {API_SERVERS_GROUP}, got: {}",
            details.common_name
        );
        return Err(refused(message));
    }
    if now > details.not_after {
        return Err(refused(format!("the certificate of {} has expired", details.common_name)));
    }
    Ok(())
}

/// One line for a person out of what TLS says; `peer` is whom this end talks to.
pub(crate) fn explain(error: &std::io::Error, peer: &str) -> Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(problem)) => {
            refused(format!("the certificate of {peer} {}", of_peer(problem)))
        }
        Some(rustls::Error::AlertReceived(alert)) => {
            refused(format!("{peer} refused this node's certificate: {}", of_us(*alert)))
        }
        Some(other) => Error::new(Kind::Disconnected, format!("TLS with {peer}: {other}")),
        None => {
            let error = Error::new(Kind::Disconnected, format!("{peer}: {error}"));
            if error.message.ends_with(": ") {
                Error::new(error.kind, format!("{peer}: lost"))
            } else {
                error
            }
        }
    }
}

fn of_peer(problem: &CertificateError) -> String {
    match problem {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "is not signed by this node's authority (another cluster, or its CA was replaced: join again)".into()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "has expired (or this machine's clock is ahead)".into()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "is not valid yet (this machine's clock is behind)".into()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "is for another name (connect by a name or address that it holds, or set the server name)".into()
        }
        other => format!("does not hold: {other}"),
    }
}

fn of_us(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            "it is of another authority (join again)".into()
        }
        AlertDescription::CertificateExpired => {
            "it has expired, or a clock is wrong (join again)".into()
        }
        AlertDescription::CertificateRequired => "none was sent".into(),
        other => format!("{other:?}"),
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn roots(ca: &str) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca, "authority")? {
        roots.add(certificate).map_err(|error| refused(format!("authority: {error}")))?;
    }
    Ok(roots)
}

fn parse(identity: &Identity) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let chain = certificates(&identity.certificate, "certificate")?;
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes())
        .map_err(|error| refused(format!("private key: not PEM: {error}")))?;
    Ok((chain, key))
}

fn certificates(pem: &str, what: &str) -> Result<Vec<CertificateDer<'static>>> {
    if pem.len() > pki::MAX_PEM_BYTES {
        return Err(refused(format!("{what}: {} bytes, limit {}", pem.len(), pki::MAX_PEM_BYTES)));
    }
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(refused(format!("{what}: no certificate in the PEM text"))),
        Err(error) => Err(refused(format!("{what}: not PEM: {error}"))),
    }
}

fn refused(message: impl Into<String>) -> Error {
    Error::new(Kind::Certificate, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(common_name: &str, organization: &str) -> CertificateDer<'static> {
        let ca = pki::create_ca("test", 10).unwrap();
        let wanted = pki::Issue {
            common_name,
            organizations: &[organization.into()],
            days: 1,
            client: true,
            ..pki::Issue::default()
        };
        let (pem, _) = pki::issue(&ca.0, &ca.1, &wanted).unwrap();
        certificates(&pem, "certificate").unwrap().remove(0)
    }

    #[test]
    fn a_node_is_named_by_its_certificate_and_its_group() {
        let own = certificate("system:node:edge-1", NODES_GROUP);
        assert_eq!(node_of(&own, 0).unwrap().0, "edge-1");
        for (name, group) in [
            ("edge-1", NODES_GROUP),
            ("system:node:", NODES_GROUP),
            ("system:node:edge-1", "other"),
        ] {
            let error = node_of(&certificate(name, group), 0).unwrap_err();
            assert!(error.message.starts_with("not a node's certificate"), "{}", error.message);
        }
    }

    #[test]
    fn a_resumed_session_does_not_outlive_its_certificate() {
        let own = certificate("system:node:edge-1", NODES_GROUP);
        let error = node_of(&own, i64::from(u32::MAX)).unwrap_err();
        assert!(error.message.starts_with("the certificate of edge-1 has expired"), "{error}");
    }

    #[test]
    fn what_is_wrong_with_a_certificate_is_one_line_with_its_fix() {
        let line = |error: rustls::Error| explain(&std::io::Error::other(error), "the hub").message;
        let peer = |problem| line(rustls::Error::InvalidCertificate(problem));
        assert!(peer(CertificateError::Expired).contains("clock is ahead"));
        assert!(peer(CertificateError::NotValidYet).contains("clock is behind"));
        assert!(peer(CertificateError::UnknownIssuer).contains("join again"));
        assert!(peer(CertificateError::NotValidForName).contains("set the server name"));
        let us = |alert| line(rustls::Error::AlertReceived(alert));
        assert!(us(AlertDescription::CertificateExpired).contains("it has expired"));
        assert!(us(AlertDescription::UnknownCA).contains("another authority"));
        assert!(explain(&std::io::Error::other("x"), "the hub").message.contains("the hub: x"));
    }

    #[test]
    fn texts_that_are_no_certificates_are_refused() {
        for text in [
            "",
            "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n",
            &"x".repeat(70_000),
        ] {
            assert_eq!(certificates(text, "authority").unwrap_err().kind, Kind::Certificate);
        }
    }
}
