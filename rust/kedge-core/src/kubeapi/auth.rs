// SPDX-License-Identifier: Apache-2.0
//! Who asks: a client certificate, a `ServiceAccount` token, or a token from configuration.
//!
//! A `ServiceAccount` token (ES256) counts while its signature, times, issuer and audience hold and
//! the objects it is bound to are still in the store with the same uid. Signatures of tokens seen
//! lately are remembered by digest; the bound objects are looked up each time.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use ring::digest::{SHA256, digest};
use serde::Deserialize;

use super::config::{Config, StaticToken};
use super::policy::Identity;
use crate::store::{Key, Store};
use crate::{Error, Kind, Result, pki};

/// The group of everyone who is known.
pub(super) const AUTHENTICATED: &str = "system:authenticated";
/// Remembered tokens; when full, all are forgotten.
const REMEMBERED: usize = 4_096;

type Digest = [u8; 32];

/// Decides who a bearer token stands for.
pub(super) struct Authenticator {
    fixed: HashMap<Digest, Identity>,
    keys: Vec<pki::VerifyingKey>,
    issuer: String,
    audiences: Vec<String>,
    verified: Mutex<HashMap<Digest, Claims>>,
}

/// What a `ServiceAccount` token says.
#[derive(Clone, Debug, Deserialize)]
struct Claims {
    iss: String,
    exp: i64,
    sub: String,
    #[serde(rename = "kubernetes.io")]
    bound: Bound,
}

#[derive(Clone, Debug, Deserialize)]
struct Bound {
    namespace: String,
    serviceaccount: Reference,
    pod: Option<Reference>,
    secret: Option<Reference>,
    node: Option<Reference>,
}

#[derive(Clone, Debug, Deserialize)]
struct Reference {
    name: String,
    uid: String,
}

impl Authenticator {
    /// Takes keys and tokens from `config`.
    pub(super) fn new(config: &Config) -> Result<Self> {
        let keys = config.service_account_keys.iter().map(|pem| pki::VerifyingKey::from_pem(pem));
        let fixed = config.tokens.iter().map(|token| (fingerprint(&token.token), known(token)));
        Ok(Self {
            fixed: fixed.collect(),
            keys: keys.collect::<Result<_>>()?,
            issuer: config.issuer.clone(),
            audiences: config.audiences.clone(),
            verified: Mutex::default(),
        })
    }

    /// Who `token` stands for now.
    pub(super) fn bearer(&self, token: &str, store: &Store) -> Result<Identity> {
        self.bearer_at(token, store, unix_now())
    }

    fn bearer_at(&self, token: &str, store: &Store, now: i64) -> Result<Identity> {
        if token.len() > pki::MAX_TOKEN_BYTES {
            return Err(unauthorized("token: too long"));
        }
        let digest = fingerprint(token);
        if let Some(found) = self.fixed.get(&digest) {
            return Ok(found.clone());
        }
        let remembered = self.verified.lock().get(&digest).cloned();
        let claims = match remembered {
            Some(claims) if now < claims.exp => claims,
            _ => self.verify(token, digest, now)?,
        };
        check_bound(&claims, store)?;
        let Bound { namespace, serviceaccount, .. } = claims.bound;
        Ok(Identity {
            user: format!("system:serviceaccount:{namespace}:{}", serviceaccount.name),
            groups: vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{namespace}"),
                AUTHENTICATED.to_owned(),
            ],
        })
    }

    fn verify(&self, token: &str, digest: Digest, now: i64) -> Result<Claims> {
        if self.keys.is_empty() {
            return Err(unauthorized("token: not known"));
        }
        let text = pki::verify(&self.keys, token, now, &self.audiences)
            .map_err(|error| unauthorized(error.message))?;
        let claims: Claims = serde_json::from_str(&text)
            .map_err(|error| unauthorized(format!("token: not of a ServiceAccount: {error}")))?;
        if claims.iss != self.issuer {
            return Err(unauthorized("token: another issuer"));
        }
        let bound = &claims.bound;
        let subject =
            format!("system:serviceaccount:{}:{}", bound.namespace, bound.serviceaccount.name);
        if claims.sub != subject {
            return Err(unauthorized("token: its subject is not its ServiceAccount"));
        }
        let mut verified = self.verified.lock();
        if verified.len() >= REMEMBERED {
            verified.clear();
        }
        verified.insert(digest, claims.clone());
        Ok(claims)
    }
}

fn known(token: &StaticToken) -> Identity {
    let mut groups = token.groups.clone();
    groups.push(AUTHENTICATED.to_owned());
    Identity { user: token.user.clone(), groups }
}

fn check_bound(claims: &Claims, store: &Store) -> Result<()> {
    let bound = &claims.bound;
    let in_namespace = [
        ("serviceaccounts", Some(&bound.serviceaccount)),
        ("pods", bound.pod.as_ref()),
        ("secrets", bound.secret.as_ref()),
    ];
    for (resource, reference) in in_namespace {
        check_reference(store, resource, &bound.namespace, reference)?;
    }
    // A pod-bound token names its node for information only; the pod decides how long it lives.
    let node = if bound.pod.is_none() { bound.node.as_ref() } else { None };
    check_reference(store, "nodes", "", node)
}

fn check_reference(
    store: &Store,
    resource: &str,
    namespace: &str,
    reference: Option<&Reference>,
) -> Result<()> {
    let Some(reference) = reference else { return Ok(()) };
    let key = Key::new("", resource, namespace, &reference.name);
    let found = store.get(&key)?;
    let same = found.is_some_and(|object| uid_of(&object.value).as_deref() == Some(&reference.uid));
    if same {
        return Ok(());
    }
    let name = &reference.name;
    Err(unauthorized(format!("token: bound to {resource} {namespace}/{name}, which is gone")))
}

/// `metadata.uid` of an object.
fn uid_of(object: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Object {
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    struct Metadata {
        #[serde(default)]
        uid: String,
    }
    serde_json::from_slice::<Object>(object).ok().map(|object| object.metadata.uid)
}

fn fingerprint(token: &str) -> Digest {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    out
}

fn unix_now() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_secs()).unwrap_or(i64::MAX)
}

fn unauthorized(message: impl Into<String>) -> Error {
    Error::new(Kind::Unauthorized, message)
}
