// SPDX-License-Identifier: Apache-2.0
//! The API server's way to a service of a linked node: a connection through the hub that has it.

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::hub::tls::{self, Identity};
use crate::hub::{PATH_TUNNEL, TUNNEL_PROTOCOL};
use crate::{Error, Kind, Result};

/// For the connection, the handshake and the hub's answer together.
const REACHING: Duration = Duration::from_secs(10);
const MAX_HEAD: usize = 4 * 1024;

/// A connection to a node's service.
pub type Reached = TlsStream<TcpStream>;

/// Who reaches nodes.
#[derive(Clone)]
pub struct Reacher {
    tls: Arc<ClientConfig>,
    server_name: String,
}

impl Reacher {
    /// With the certificate of an API server; hubs must hold one of `ca` for `server_name`.
    pub fn new(identity: &Identity, ca: &str, server_name: &str) -> Result<Self> {
        Ok(Self { tls: tls::client_config(identity, ca)?, server_name: server_name.to_owned() })
    }

    /// Connects to `service` of `node` through the hub at `address`.
    ///
    /// `NotFound`: the node is not linked to that hub. `Disconnected`: the hub cannot be reached.
    pub async fn reach(&self, address: &str, node: &str, service: &str) -> Result<Reached> {
        let reached = timeout(REACHING, self.connect(address, node, service)).await;
        reached.unwrap_or_else(|_| {
            let message = format!("hub {address} did not answer within 10 s");
            Err(Error::new(Kind::Disconnected, message))
        })
    }

    async fn connect(&self, address: &str, node: &str, service: &str) -> Result<Reached> {
        // They become part of a request line.
        let plain = |text: &str| {
            text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
        };
        if node.is_empty() || !plain(node) || !plain(service) {
            let message = format!("node name: wanted letters, digits, '-' and '.', got: {node:?}");
            return Err(Error::new(Kind::Invalid, message));
        }
        let lost = |error: std::io::Error| tls::explain(&error, &format!("hub {address}"));
        let stream = TcpStream::connect(address).await.map_err(lost)?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(self.server_name.clone()).map_err(|_error| {
            let message = format!("server name: wanted a DNS name, got: {}", self.server_name);
            Error::new(Kind::Invalid, message)
        })?;
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        let mut stream = connector.connect(name, stream).await.map_err(lost)?;
        let request = format!(
            "GET {PATH_TUNNEL}{node}/{service} HTTP/1.1\r\nhost: kedge-hub\r\n\
             connection: Upgrade\r\nupgrade: {TUNNEL_PROTOCOL}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.map_err(lost)?;
        stream.flush().await.map_err(lost)?;
        let (status, text) = read_answer(&mut stream).await?;
        let kind = match status {
            101 => return Ok(stream),
            404 => Kind::NotFound,
            403 => Kind::Forbidden,
            503 => Kind::Disconnected,
            _ => Kind::Rejected,
        };
        Err(Error::new(kind, text))
    }
}

/// The status of the hub's answer, and the line that it says when that is not 101.
async fn read_answer(stream: &mut Reached) -> Result<(u16, String)> {
    let mut bytes = Vec::with_capacity(512);
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut answer = httparse::Response::new(&mut headers);
        let parsed = answer
            .parse(&bytes)
            .map_err(|error| Error::new(Kind::Rejected, format!("not a hub's answer: {error}")))?;
        if let httparse::Status::Complete(length) = parsed {
            let status = answer.code.unwrap_or(0);
            if status == 101 && bytes.len() > length {
                return Err(Error::new(Kind::Rejected, "the node spoke before it was asked"));
            }
            let mut text = bytes.split_off(length);
            if status != 101 {
                stream
                    .take((MAX_HEAD - text.len().min(MAX_HEAD)) as u64)
                    .read_to_end(&mut text)
                    .await?;
            }
            return Ok((status, String::from_utf8_lossy(&text).trim().to_owned()));
        }
        if bytes.len() >= MAX_HEAD {
            return Err(Error::new(Kind::TooLarge, "the hub's answer: over 4 KiB"));
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(Error::new(Kind::Disconnected, "the hub closed the connection"));
        }
    }
}
