// SPDX-License-Identifier: Apache-2.0
//! Keys, certificates and signed tokens: ECDSA P-256 everywhere, PEM in and PEM out.
//!
//! `issuing` makes authorities, certificates and requests; `reading` takes them apart and checks
//! them against a clock and an authority; `jwt` signs and verifies ES256 tokens. What comes from
//! outside is limited in size before it is parsed, and a refusal says what was wrong. Names in a
//! certificate always come from the caller, never from a request. Nothing here does I/O or keeps
//! state; `ring` does the cryptography.

mod issuing;
mod jwt;
mod pem;
mod reading;

pub use issuing::{Issue, create_ca, issue, make_csr, make_csr_with_key, new_key, sign_csr};
pub use jwt::{SigningKey, VerifyingKey, jwks, sign, verify};
pub use reading::{
    Details, ca_hash, check, csr_key_hash, fingerprint, inspect, inspect_der, key_hash_der,
    public_key, same_key,
};

use ring::rand::{SecureRandom, SystemRandom};

use crate::{Error, Kind, Result};

/// A PEM text larger than this is refused unread.
pub const MAX_PEM_BYTES: usize = 64 * 1024;
/// A token longer than this is refused unread.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// The longest common name or organization (RFC 5280, ub-common-name is 64; Kubernetes uses more).
pub const MAX_NAME_BYTES: usize = 320;

/// `bytes` random bytes from the system, as URL-safe base64 without padding.
pub fn random_token(bytes: usize) -> Result<String> {
    use base64::Engine as _;
    if bytes == 0 || bytes > 1024 {
        return Err(Error::new(
            Kind::Invalid,
            format!("random token: wanted 1 to 1024 bytes, got: {bytes}"),
        ));
    }
    Ok(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(random(bytes)?))
}

fn random(bytes: usize) -> Result<Vec<u8>> {
    let mut buffer = vec![0_u8; bytes];
    SystemRandom::new().fill(&mut buffer).map_err(|ring::error::Unspecified| {
        Error::new(Kind::Internal, "the system gave no random bytes")
    })?;
    Ok(buffer)
}

fn refused(message: impl Into<String>) -> Error {
    Error::new(Kind::Certificate, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_tokens_differ_and_have_the_length_asked_for() {
        let (one, other) = (random_token(16).unwrap(), random_token(16).unwrap());
        assert_eq!(one.len(), 22);
        assert_ne!(one, other);
        assert_eq!(random_token(0).unwrap_err().kind, Kind::Invalid);
    }
}
