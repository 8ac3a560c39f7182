// SPDX-License-Identifier: Apache-2.0
//! JSON Web Tokens, as Kubernetes issues and checks them: signed with ECDSA P-256 (ES256), and checked with
//! RSA (RS256) too, which a Kubernetes that is not ours may use.
//!
//! A key knows its one algorithm, so that a token cannot choose. `verify` checks signature,
//! time and audience; who issued it and what it is bound to is the caller's business.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo, X509Certificate};

use super::{MAX_TOKEN_BYTES, pem, refused};
use crate::{Error, Kind, Result};

/// `SubjectPublicKeyInfo` of a P-256 key up to its point (RFC 5480).
const P256_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// An uncompressed point: a four and two coordinates.
const POINT_BYTES: usize = 65;

#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: String,
    #[serde(default)]
    typ: String,
}

/// A private key that signs tokens.
pub struct SigningKey {
    pair: EcdsaKeyPair,
}

impl SigningKey {
    /// The key in a `PRIVATE KEY` (PKCS#8) PEM text.
    pub fn from_pem(text: &str) -> Result<Self> {
        let der = pem::private_key(text)?;
        let pair = EcdsaKeyPair::from_pkcs8(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            der.secret_pkcs8_der(),
            &SystemRandom::new(),
        )
        .map_err(|error| refused(format!("private key: wanted ECDSA P-256 in PKCS#8: {error}")))?;
        Ok(Self { pair })
    }

    /// The public point.
    pub(super) fn point(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    /// The public key information (DER).
    pub(super) fn public_key_info(&self) -> Vec<u8> {
        [&P256_PREFIX, self.point()].concat()
    }
}

/// A public key that checks tokens.
#[derive(Clone)]
pub struct VerifyingKey {
    public: Public,
    key_id: String,
}

#[derive(Clone)]
enum Public {
    Ecdsa([u8; POINT_BYTES]),
    /// Modulus and exponent, big-endian.
    Rsa(Vec<u8>, Vec<u8>),
}

impl Public {
    fn algorithm(&self) -> &'static str {
        match self {
            Self::Ecdsa(_) => "ES256",
            Self::Rsa(..) => "RS256",
        }
    }

    fn holds(&self, signed: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Ecdsa(point) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                .verify(signed, signature)
                .is_ok(),
            Self::Rsa(n, e) => RsaPublicKeyComponents { n, e }
                .verify(&RSA_PKCS1_2048_8192_SHA256, signed, signature)
                .is_ok(),
        }
    }
}

/// A key of a JSON Web Key Set.
#[derive(Deserialize)]
struct WebKey {
    kty: String,
    #[serde(default)]
    kid: String,
    #[serde(default)]
    crv: String,
    #[serde(default)]
    x: String,
    #[serde(default)]
    y: String,
    #[serde(default)]
    n: String,
    #[serde(default)]
    e: String,
}

impl VerifyingKey {
    /// The key in a `PUBLIC KEY`, `CERTIFICATE` or `PRIVATE KEY` PEM text.
    pub fn from_pem(text: &str) -> Result<Self> {
        if text.contains("PRIVATE KEY-----") {
            return Self::from_point(SigningKey::from_pem(text)?.point());
        }
        if text.contains("BEGIN CERTIFICATE-----") {
            let der = pem::certificate(text)?;
            let (_, parsed) = X509Certificate::from_der(&der)
                .map_err(|error| refused(format!("certificate: malformed: {error}")))?;
            return Self::from_point(&parsed.public_key().subject_public_key.data);
        }
        let der = pem::public_key(text)?;
        let (_, parsed) = SubjectPublicKeyInfo::from_der(der.as_ref())
            .map_err(|error| refused(format!("public key: malformed: {error}")))?;
        Self::from_point(&parsed.subject_public_key.data)
    }

    /// The name of the key in a token's header: the digest of its public key information.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// The keys of a JSON Web Key Set that can be used; those of other kinds are left out.
    pub fn from_jwks(text: &str) -> Result<Vec<Self>> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<WebKey>,
        }
        let set: Set = serde_json::from_str(text)
            .map_err(|error| refused(format!("key set: malformed: {error}")))?;
        let usable = |key: &WebKey| {
            (key.kty == "EC" && key.crv == "P-256") || (key.kty == "RSA" && !key.n.is_empty())
        };
        set.keys.iter().filter(|key| usable(key)).map(Self::from_jwk).collect()
    }

    fn from_jwk(key: &WebKey) -> Result<Self> {
        let part = |text: &str| decode(text, "part of a key");
        if key.kty == "RSA" {
            let public = Public::Rsa(part(&key.n)?, part(&key.e)?);
            return Ok(Self { public, key_id: key.kid.clone() });
        }
        let point = [&[4], &part(&key.x)?[..], &part(&key.y)?[..]].concat();
        let known = Self::from_point(&point)?;
        let key_id = if key.kid.is_empty() { known.key_id } else { key.kid.clone() };
        Ok(Self { key_id, ..known })
    }

    fn from_point(point: &[u8]) -> Result<Self> {
        let point: [u8; POINT_BYTES] = point.try_into().map_err(|_error| {
            refused(format!("public key: wanted an ECDSA P-256 point, got {} bytes", point.len()))
        })?;
        let info = [&P256_PREFIX[..], &point].concat();
        let key_id = BASE64.encode(digest(&SHA256, &info));
        Ok(Self { public: Public::Ecdsa(point), key_id })
    }
}

/// A token that carries `claims` (a JSON object). An empty `key_id` means the key's own digest.
pub fn sign(key: &SigningKey, claims: &str, key_id: &str) -> Result<String> {
    let claims: Value = serde_json::from_str(claims)
        .map_err(|error| Error::new(Kind::Invalid, format!("claims: not JSON: {error}")))?;
    if !claims.is_object() {
        return Err(Error::new(Kind::Invalid, "claims: wanted a JSON object"));
    }
    let kid = if key_id.is_empty() {
        VerifyingKey::from_point(key.point())?.key_id
    } else {
        key_id.to_owned()
    };
    let header = json!({"alg": "ES256", "kid": kid, "typ": "JWT"});
    let signed =
        format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()));
    let signature = key.pair.sign(&SystemRandom::new(), signed.as_bytes()).map_err(
        |ring::error::Unspecified| Error::new(Kind::Internal, "the token could not be signed"),
    )?;
    Ok(format!("{signed}.{}", BASE64.encode(signature)))
}

/// The claims (JSON) of a token that one of `keys` signed, that holds at `now` (seconds since 1970)
/// and that names one of `audiences`, when any are given. A token without `exp` is refused.
pub fn verify(
    keys: &[VerifyingKey],
    token: &str,
    now: i64,
    audiences: &[String],
) -> Result<String> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(refused(format!(
            "token: longer than {MAX_TOKEN_BYTES} bytes: {}",
            token.len()
        )));
    }
    let mut parts = token.split('.');
    let (Some(header), Some(payload), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(refused("token: malformed: wanted three parts joined by dots"));
    };
    let head: Header = serde_json::from_slice(&decode(header, "header")?)
        .map_err(|error| refused(format!("token: malformed header: {error}")))?;
    if !keys.iter().any(|key| key.public.algorithm() == head.alg) {
        let wanted = keys.first().map_or("ES256", |key| key.public.algorithm());
        return Err(refused(format!("token: wanted algorithm {wanted}, got: {:.20}", head.alg)));
    }
    let signature = decode(signature, "signature")?;
    let signed = &token.as_bytes()[..=header.len() + payload.len()];
    let trusted = keys.iter().filter(|key| head.kid.is_empty() || key.key_id == head.kid);
    let holds = |key: &VerifyingKey| {
        key.public.algorithm() == head.alg && key.public.holds(signed, &signature)
    };
    // A token may name its key otherwise (a `key_id` given to `sign`): then every key is tried.
    let mut trusted = trusted.peekable();
    let found = if trusted.peek().is_some() { trusted.any(holds) } else { keys.iter().any(holds) };
    if !found {
        return Err(refused("token: not signed by a key that is trusted here"));
    }
    let claims: Value = serde_json::from_slice(&decode(payload, "claims")?)
        .map_err(|error| refused(format!("token: malformed claims: {error}")))?;
    timely(&claims, now)?;
    addressed(&claims, audiences)?;
    Ok(claims.to_string())
}

/// The public keys as a JSON Web Key Set.
pub fn jwks(keys: &[VerifyingKey]) -> String {
    let keys: Vec<Value> = keys
        .iter()
        .filter_map(|key| {
            let Public::Ecdsa(point) = &key.public else { return None };
            Some(json!({
                "use": "sig",
                "kty": "EC",
                "kid": key.key_id,
                "crv": "P-256",
                "alg": "ES256",
                "x": BASE64.encode(&point[1..33]),
                "y": BASE64.encode(&point[33..]),
            }))
        })
        .collect();
    json!({ "keys": keys }).to_string()
}

fn decode(part: &str, what: &str) -> Result<Vec<u8>> {
    BASE64
        .decode(part)
        .map_err(|_error| refused(format!("token: malformed: its {what} is not base64url")))
}

fn timely(claims: &Value, now: i64) -> Result<()> {
    let number = |name: &str| {
        claims.get(name).and_then(|value| value.as_i64().or_else(|| whole(value.as_f64()?)))
    };
    let Some(expires) = number("exp") else {
        return Err(refused("token: it has no expiry"));
    };
    if now >= expires {
        return Err(refused(format!("token: expired {} s ago", now - expires)));
    }
    match number("nbf") {
        Some(from) if now < from => {
            Err(refused(format!("token: not yet valid: it holds in {} s", from - now)))
        }
        _ => Ok(()),
    }
}

fn whole(value: f64) -> Option<i64> {
    // Beyond 2^53 a JSON number is no longer whole anyway.
    #[expect(clippy::cast_possible_truncation, reason = "bounded by the comparison")]
    (value.abs() < 9_007_199_254_740_992.0).then_some(value as i64)
}

fn addressed(claims: &Value, audiences: &[String]) -> Result<()> {
    let named =
        |value: &Value| value.as_str().is_some_and(|name| audiences.iter().any(|a| a == name));
    let found = match claims.get("aud") {
        Some(Value::Array(all)) => all.iter().any(named),
        Some(one) => named(one),
        None => false,
    };
    if audiences.is_empty() || found {
        Ok(())
    } else {
        Err(refused(format!("token: meant for another audience than: {}", audiences.join(", "))))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{create_ca, new_key, public_key};
    use super::*;

    fn keys() -> (SigningKey, VerifyingKey) {
        let text = new_key().unwrap();
        let public = VerifyingKey::from_pem(&public_key(&text).unwrap()).unwrap();
        (SigningKey::from_pem(&text).unwrap(), public)
    }

    #[test]
    fn a_token_comes_back_as_its_claims() {
        let (key, public) = keys();
        let token = sign(&key, r#"{"sub":"a","exp":100,"aud":["x","y"]}"#, "").unwrap();
        let claims = verify(&[public], &token, 99, &["y".to_owned()]).unwrap();
        assert_eq!(claims, r#"{"sub":"a","exp":100,"aud":["x","y"]}"#);
    }

    #[test]
    fn what_does_not_hold_is_refused_with_the_reason() {
        let ((key, public), (_, other)) = (keys(), keys());
        let token = sign(&key, r#"{"exp":100,"nbf":50,"aud":"x"}"#, "").unwrap();
        let try_it = |keys: &[VerifyingKey], token: &str, now: i64, audience: &str| {
            verify(keys, token, now, &[audience.to_owned()]).unwrap_err().message
        };
        let own = std::slice::from_ref(&public);
        assert!(try_it(own, &token, 100, "x").contains("expired 0 s ago"));
        assert!(try_it(own, &token, 49, "x").contains("not yet valid"));
        assert!(try_it(own, &token, 60, "z").contains("another audience"));
        assert!(try_it(&[other], &token, 60, "x").contains("not signed by a key"));
        assert!(try_it(own, "a.b", 60, "x").contains("three parts"));
        assert!(try_it(own, "!.b.c", 60, "x").contains("not base64url"));
        assert!(try_it(own, &"a".repeat(MAX_TOKEN_BYTES + 1), 60, "x").contains("longer than"));
        let lasting = sign(&key, "{}", "").unwrap();
        assert!(try_it(own, &lasting, 60, "x").contains("no expiry"));
    }

    #[test]
    fn a_token_cannot_choose_its_algorithm() {
        let (_, public) = keys();
        for alg in ["none", "HS256", "RS256"] {
            let head = BASE64.encode(format!(r#"{{"alg":"{alg}"}}"#));
            let token = format!("{head}.{}.", BASE64.encode(r#"{"exp":100}"#));
            let error = verify(std::slice::from_ref(&public), &token, 1, &[]).unwrap_err();
            assert!(error.message.contains("wanted algorithm ES256"), "{error}");
        }
    }

    #[test]
    fn any_changed_byte_of_a_token_is_noticed() {
        let (key, public) = keys();
        let token = sign(&key, r#"{"exp":100}"#, "").unwrap();
        for position in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[position] = if bytes[position] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            // The last character of a part carries bits that are not part of the value.
            if let Ok(claims) = verify(std::slice::from_ref(&public), &changed, 1, &[]) {
                assert_eq!(claims, r#"{"exp":100}"#, "changed at {position}");
            }
        }
    }

    #[test]
    fn a_key_set_names_its_keys_by_the_id_in_the_tokens() {
        let (ca, ca_key) = create_ca("a", 1).unwrap();
        let public = VerifyingKey::from_pem(&ca).unwrap();
        let token = sign(&SigningKey::from_pem(&ca_key).unwrap(), r#"{"exp":9}"#, "").unwrap();
        let head =
            String::from_utf8(BASE64.decode(token.split('.').next().unwrap()).unwrap()).unwrap();
        assert!(head.contains(public.key_id()));
        assert!(jwks(std::slice::from_ref(&public)).contains(public.key_id()));
        verify(&[public], &token, 1, &[]).unwrap();
    }
}
