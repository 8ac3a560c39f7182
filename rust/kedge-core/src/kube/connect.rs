// SPDX-License-Identifier: Apache-2.0
//! One connection to an API server: TCP, TLS 1.3 with the CA pinned, HTTP/1.1.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use http_body_util::Full;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustix::net::sockopt;
use rustls::ClientConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::kubeapi::tls::{certificates, roots};
use crate::{Error, Kind, Result};

/// For TCP and TLS together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A silent peer is given up after about this and three probes.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBE: Duration = Duration::from_secs(5);
const KEEPALIVE_PROBES: u32 = 3;
/// Response heads larger than this are refused.
const HEAD_BYTES: usize = 64 * 1024;

/// Where the server is and who we are; no credential is ever shown.
#[derive(Clone, Default)]
pub struct Options {
    /// `https://HOST:PORT`, possibly with a path.
    pub server: String,
    /// PEM of the authority that the server's certificate must be of.
    pub ca: String,
    /// PEM of our certificate; empty when a token is used.
    pub certificate: String,
    /// PEM of its key.
    pub key: String,
    /// The name to expect in the server's certificate, when it is not the host.
    pub server_name: String,
}

/// A connection ready for requests.
pub(super) type Sender = SendRequest<Full<Bytes>>;

/// Makes connections.
pub(super) struct Connector {
    tls: TlsConnector,
    name: ServerName<'static>,
    host: String,
    port: u16,
    /// The `Host` header.
    pub(super) authority: String,
    /// What goes before every path.
    pub(super) prefix: String,
}

impl Connector {
    /// A connector for `options`.
    pub(super) fn new(options: &Options) -> Result<Self> {
        let uri: Uri = options.server.parse().map_err(|error| {
            invalid(format!("server: not a URL: {:?}: {error}", options.server))
        })?;
        if uri.scheme_str() != Some("https") {
            return Err(invalid(format!(
                "server: wanted https://HOST:PORT, got: {:?}",
                options.server
            )));
        }
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let expected =
            if options.server_name.is_empty() { host.clone() } else { options.server_name.clone() };
        let name = ServerName::try_from(expected.clone())
            .map_err(|error| invalid(format!("server: not a host name: {expected:?}: {error}")))?;
        Ok(Self {
            tls: TlsConnector::from(Arc::new(tls(options)?)),
            name,
            port: uri.port_u16().unwrap_or(443),
            authority: uri.authority().map(ToString::to_string).unwrap_or_default(),
            prefix: uri.path().trim_end_matches('/').to_owned(),
            host,
        })
    }

    /// A fresh connection.
    pub(super) async fn connect(&self) -> Result<Sender> {
        timeout(CONNECT_TIMEOUT, self.dial()).await.map_err(|_elapsed| {
            let message = format!("no connection to {} within 10 s", self.authority);
            Error::new(Kind::Disconnected, message)
        })?
    }

    /// TCP and TLS.
    pub(super) async fn stream(&self) -> Result<TlsStream<TcpStream>> {
        let away = |error: &dyn std::fmt::Display| {
            Error::new(Kind::Disconnected, format!("cannot reach {}: {error}", self.authority))
        };
        let stream = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(|error| away(&error))?;
        tune(&stream).map_err(|error| away(&error))?;
        self.tls.connect(self.name.clone(), stream).await.map_err(|error| {
            let ours = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
            let kind = if ours.is_some() { Kind::Certificate } else { Kind::Disconnected };
            Error::new(kind, format!("TLS with {}: {error}", self.authority))
        })
    }

    async fn dial(&self) -> Result<Sender> {
        let stream = self.stream().await?;
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(HEAD_BYTES)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| {
                let message = format!("cannot reach {}: {error}", self.authority);
                Error::new(Kind::Disconnected, message)
            })?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                log::debug!("a connection to the API server ended: {error}");
            }
        });
        Ok(sender)
    }
}

fn tune(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE_PROBE)?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVE_PROBES)?;
    Ok(())
}

fn tls(options: &Options) -> Result<ClientConfig> {
    let unusable = |what: &str, error: &dyn std::fmt::Display| {
        Error::new(Kind::Certificate, format!("{what}: cannot be used: {error}"))
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| unusable("TLS", &error))?
        .with_root_certificates(roots(&options.ca)?);
    let mut config = if options.certificate.is_empty() {
        builder.with_no_client_auth()
    } else {
        let key = PrivateKeyDer::from_pem_slice(options.key.as_bytes())
            .map_err(|error| unusable("client key", &error))?;
        builder
            .with_client_auth_cert(certificates(&options.certificate)?, key)
            .map_err(|error| unusable("client certificate", &error))?
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn invalid(message: String) -> Error {
    Error::new(Kind::Invalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_no_https_url_is_refused() {
        for server in ["", "http://h:1", "h:1", "https://"] {
            let options = Options { server: server.to_owned(), ..Options::default() };
            assert!(Connector::new(&options).is_err(), "{server}");
        }
    }
}
