// SPDX-License-Identifier: Apache-2.0
//! From PEM text to DER, with limits, and words for what is wrong with it.

use rustls_pki_types::pem::{Error as PemError, PemObject};
use rustls_pki_types::{
    CertificateDer, CertificateSigningRequestDer, PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer,
};

use super::{MAX_PEM_BYTES, refused};
use crate::{Error, Kind, Result};

/// The first certificate in `text`.
pub(super) fn certificate(text: &str) -> Result<CertificateDer<'static>> {
    decode(text, "certificate", "CERTIFICATE")
}

/// The certificate request in `text`.
pub(super) fn request(text: &str) -> Result<CertificateSigningRequestDer<'static>> {
    decode(text, "certificate request", "CERTIFICATE REQUEST")
}

/// The PKCS#8 private key in `text`.
pub(super) fn private_key(text: &str) -> Result<PrivatePkcs8KeyDer<'static>> {
    decode(text, "private key", "PRIVATE KEY")
}

/// The public key in `text`.
pub(super) fn public_key(text: &str) -> Result<SubjectPublicKeyInfoDer<'static>> {
    decode(text, "public key", "PUBLIC KEY")
}

/// DER as a PEM block with lines of 64 characters.
pub(super) fn encode(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for start in (0..body.len()).step_by(64) {
        text.push_str(&body[start..body.len().min(start + 64)]);
        text.push('\n');
    }
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}

fn decode<T: PemObject>(text: &str, what: &str, label: &str) -> Result<T> {
    if text.len() > MAX_PEM_BYTES {
        return Err(Error::new(
            Kind::TooLarge,
            format!("{what}: larger than {MAX_PEM_BYTES} bytes: {}", text.len()),
        ));
    }
    T::from_pem_slice(text.as_bytes()).map_err(|error| match error {
        PemError::NoItemsFound => refused(format!(
            "{what}: wanted a PEM block {label}, found none in {} bytes",
            text.len()
        )),
        PemError::MissingSectionEnd { .. } => {
            refused(format!("{what}: the PEM block {label} has no end line: it is cut short"))
        }
        PemError::Base64Decode(_) => {
            refused(format!("{what}: the PEM block {label} is not base64"))
        }
        other => refused(format!("{what}: malformed PEM: {other}")),
    })
}
