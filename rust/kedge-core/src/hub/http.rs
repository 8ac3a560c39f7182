// SPDX-License-Identifier: Apache-2.0
//! The little HTTP that the hub's port needs: one request a connection, everything limited.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::{Error, Kind, Result};

const MAX_HEAD: usize = 8 * 1024;
const MAX_HEADERS: usize = 32;
/// A join request: token, CSR, name.
pub(crate) const MAX_BODY: usize = 64 * 1024;

/// A request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    /// Read beyond the head.
    pub(crate) rest: Vec<u8>,
}

impl Request {
    /// A header's value; empty when it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// Whether one of the words in a comma-separated header is `word`.
    pub(crate) fn header_has(&self, name: &str, word: &str) -> bool {
        self.header(name).split(',').any(|part| part.trim().eq_ignore_ascii_case(word))
    }
}

/// Reads a request's head.
pub(crate) async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Result<Request> {
    let mut bytes = Vec::with_capacity(1024);
    loop {
        if let Some(request) = parse(&bytes)? {
            return Ok(request);
        }
        if bytes.len() >= MAX_HEAD {
            return Err(Error::new(Kind::TooLarge, format!("request head: over {MAX_HEAD} bytes")));
        }
        let mut chunk = [0_u8; 1024];
        let room = chunk.len().min(MAX_HEAD - bytes.len());
        match stream.read(&mut chunk[..room]).await? {
            0 => return Err(Error::new(Kind::Disconnected, "the connection ended in a request")),
            count => bytes.extend_from_slice(&chunk[..count]),
        }
    }
}

/// Reads the body that a request announces.
pub(crate) async fn read_body(
    stream: &mut (impl AsyncRead + Unpin),
    request: &Request,
) -> Result<Vec<u8>> {
    let length = request.header("content-length");
    let length: usize = length.parse().map_err(|_error| {
        Error::new(Kind::Invalid, format!("content-length: wanted a number, got: {length:?}"))
    })?;
    if length > MAX_BODY {
        return Err(Error::new(Kind::TooLarge, format!("body: {length} bytes, limit {MAX_BODY}")));
    }
    let mut body = request.rest.clone();
    body.truncate(length);
    let have = body.len();
    body.resize(length, 0);
    stream.read_exact(&mut body[have..]).await?;
    Ok(body)
}

/// Writes an answer and ends the connection.
pub(crate) async fn answer(
    stream: &mut (impl AsyncWrite + Unpin),
    status: u16,
    media: &str,
    body: &[u8],
) -> Result<()> {
    let mut whole = format!(
        "HTTP/1.1 {status} {}\r\ncontent-type: {media}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        reason(status),
        body.len()
    )
    .into_bytes();
    // In one piece: a WebSocket client takes only what comes along with the head for the reason.
    whole.extend_from_slice(body);
    stream.write_all(&whole).await?;
    stream.flush().await?;
    stream.shutdown().await?;
    Ok(())
}

fn reason(status: u16) -> &'static str {
    http::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).unwrap_or("Unknown")
}

fn parse(bytes: &[u8]) -> Result<Option<Request>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let status = parsed
        .parse(bytes)
        .map_err(|error| Error::new(Kind::Invalid, format!("not an HTTP request: {error}")))?;
    let httparse::Status::Complete(length) = status else { return Ok(None) };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers =
        parsed.headers.iter().map(|h| (h.name.to_ascii_lowercase(), text(h.value))).collect();
    let path = parsed.path.unwrap_or_default();
    Ok(Some(Request {
        method: parsed.method.unwrap_or_default().to_owned(),
        path: path.split('?').next().unwrap_or_default().to_owned(),
        headers,
        rest: bytes[length..].to_vec(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_and_its_body_are_read() {
        let bytes =
            b"POST /v1/join?x=1 HTTP/1.1\r\nContent-Length: 5\r\nConnection: a, Upgrade\r\n\r\nhe";
        let mut stream = (&bytes[..]).chain(&b"llo"[..]);
        let request = read_request(&mut stream).await.unwrap();
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/v1/join"));
        assert!(request.header_has("connection", "upgrade"));
        assert_eq!(read_body(&mut stream, &request).await.unwrap(), b"hello");
    }

    #[tokio::test]
    async fn a_head_over_its_limit_is_refused() {
        let bytes = [b"GET / HTTP/1.1\r\nx: ".to_vec(), vec![b'a'; 3 * MAX_HEAD]].concat();
        let error = read_request(&mut &bytes[..]).await.unwrap_err();
        assert_eq!(error.kind, Kind::TooLarge);
    }

    #[tokio::test]
    async fn a_body_over_its_limit_is_refused_before_it_is_read() {
        for (length, kind) in
            [("99999999", Kind::TooLarge), ("-1", Kind::Invalid), ("", Kind::Invalid)]
        {
            let headers = vec![("content-length".to_owned(), length.to_owned())];
            let request = Request { headers, ..Request::default() };
            assert_eq!(read_body(&mut &b""[..], &request).await.unwrap_err().kind, kind);
        }
    }

    #[tokio::test]
    async fn a_request_cut_anywhere_is_disconnected() {
        let bytes = b"GET /v1/ca HTTP/1.1\r\nHost: h\r\n\r\n";
        for end in 0..bytes.len() {
            let error = read_request(&mut &bytes[..end]).await.unwrap_err();
            assert_eq!(error.kind, Kind::Disconnected, "{end}");
        }
        assert_eq!(
            read_request(&mut &b"\x16\x03\x01 what\r\n\r\n"[..]).await.unwrap_err().kind,
            Kind::Invalid
        );
    }
}
