// SPDX-License-Identifier: Apache-2.0
//! Who asks: a client certificate, a `ServiceAccount` token, or a token from configuration.
//!
//! A `ServiceAccount` token (ES256) counts while its signature, times, issuer and audience hold and
//! the objects it is bound to are still in the store with the same uid. Signatures of tokens seen
//! lately are remembered by digest; the bound objects are looked up each time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use ring::digest::{SHA256, digest};
use serde::Deserialize;
use serde_json::Value;

use super::config::{Config, StaticToken};
use super::policy::Identity;
use super::trust::{Followed, Trust};
use crate::store::{Key, ListQuery, Store};
use crate::{Error, Kind, Result, pki};

/// The group of everyone who is known.
pub(super) const AUTHENTICATED: &str = "system:authenticated";
/// The group of all accounts, and what follows it for those of a namespace.
pub(super) const ACCOUNTS: &str = "system:serviceaccounts";
/// What the user name of an account begins with.
pub(super) const ACCOUNT_USER: &str = "system:serviceaccount:";
/// Remembered tokens; when full, all are forgotten.
const REMEMBERED: usize = 4_096;

type Digest = [u8; 32];

/// Decides who a bearer token stands for.
pub(super) struct Authenticator {
    fixed: HashMap<Digest, Identity>,
    configured: Trust,
    /// On a node: the cluster's issuer, as its view has it.
    followed: Option<Followed>,
    verified: Mutex<HashMap<Digest, Arc<Claims>>>,
}

/// What a `ServiceAccount` token says.
#[derive(Debug, Deserialize)]
struct Claims {
    iss: String,
    exp: i64,
    sub: String,
    /// One, or a list.
    #[serde(default)]
    aud: Value,
    #[serde(rename = "kubernetes.io")]
    bound: Bound,
}

#[derive(Debug, Deserialize)]
struct Bound {
    namespace: String,
    serviceaccount: Reference,
    pod: Option<Reference>,
    secret: Option<Reference>,
    node: Option<Reference>,
}

#[derive(Debug, Deserialize)]
struct Reference {
    name: String,
    uid: String,
}

/// A token that the cloud sent for a pod.
#[derive(Deserialize)]
struct HeldToken {
    spec: HeldSpec,
    status: HeldStatus,
}

#[derive(Deserialize)]
struct HeldSpec {
    #[serde(rename = "podUID")]
    pod_uid: String,
    #[serde(default)]
    audience: String,
}

#[derive(Deserialize)]
struct HeldStatus {
    token: String,
}

impl Authenticator {
    /// Takes keys and tokens from `config`.
    pub(super) fn new(config: &Config) -> Result<Self> {
        let keys = config.service_account_keys.iter().map(|pem| pki::VerifyingKey::from_pem(pem));
        let fixed = config.tokens.iter().map(|token| (fingerprint(&token.token), known(token)));
        Ok(Self {
            fixed: fixed.collect(),
            configured: Trust {
                keys: keys.collect::<Result<_>>()?,
                issuer: config.issuer.clone(),
                audiences: config.audiences.clone(),
            },
            followed: config.replica.as_ref().map(|_| Followed::default()),
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
        let followed = self.followed(store)?;
        let remembered = self.verified.lock().get(&digest).cloned();
        let claims = match remembered {
            Some(claims) if now < claims.exp => claims,
            _ => self.verify(token, digest, now, followed.as_deref())?,
        };
        check_bound(&claims, store)?;
        Ok(account(&claims.bound))
    }

    /// Who a token for one of these audiences (none: for this API) stands for now, and which of them it is for.
    pub(super) fn review(
        &self,
        token: &str,
        audiences: &[String],
        store: &Store,
    ) -> Result<(Identity, Vec<String>)> {
        if audiences.is_empty() {
            return Ok((self.bearer(token, store)?, Vec::new()));
        }
        let followed = self.followed(store)?;
        let claims = self.claims(token, unix_now(), audiences, followed.as_deref())?;
        check_bound(&claims, store)?;
        let is_meant = |name: &&String| match &claims.aud {
            Value::Array(all) => all.iter().any(|one| one == *name),
            one => one == *name,
        };
        let meant = audiences.iter().filter(is_meant).cloned().collect();
        Ok((account(&claims.bound), meant))
    }

    /// Whether this server signed a token itself; for a node's it is the only one that accepts it.
    pub(super) fn signed_here(&self, token: &str) -> bool {
        let Trust { keys, audiences, .. } = &self.configured;
        !keys.is_empty() && pki::verify(keys, token, unix_now(), audiences).is_ok()
    }

    /// The cluster's own token of the pod that a token of this node is for, if it holds: nobody but
    /// this node accepts the other.
    pub(super) fn stand_in(&self, token: &str, store: &Store) -> Option<String> {
        let claims = self.verified.lock().get(&fingerprint(token)).cloned()?;
        if self.followed.is_none() || claims.iss != self.configured.issuer {
            return None;
        }
        let pod = claims.bound.pod.as_ref()?;
        let query = ListQuery {
            group: "kedge.io".to_owned(),
            resource: "serviceaccounttokens".to_owned(),
            namespace: claims.bound.namespace.clone(),
            ..ListQuery::default()
        };
        let held = store.list(&query).ok()?.items;
        let fits = held.iter().filter_map(|item| {
            let held: HeldToken = serde_json::from_slice(&item.value).ok()?;
            (held.spec.pod_uid == pod.uid && held.spec.audience.is_empty())
                .then_some(held.status.token)
        });
        fits.into_iter().find(|token| self.bearer(token, store).is_ok())
    }

    /// The cluster's issuer; when it changes, what was verified before is to be verified again.
    fn followed(&self, store: &Store) -> Result<Option<Arc<Trust>>> {
        let Some(followed) = &self.followed else { return Ok(None) };
        let (trust, changed) = followed.current(store)?;
        if changed {
            self.verified.lock().clear();
        }
        Ok(trust)
    }

    fn verify(
        &self,
        token: &str,
        digest: Digest,
        now: i64,
        followed: Option<&Trust>,
    ) -> Result<Arc<Claims>> {
        let claims = Arc::new(self.claims(token, now, &[], followed)?);
        let mut verified = self.verified.lock();
        if verified.len() >= REMEMBERED {
            verified.clear();
        }
        verified.insert(digest, Arc::clone(&claims));
        Ok(claims)
    }

    /// What a token for one of `audiences` (none: for this API) says, by whoever issued it.
    fn claims(
        &self,
        token: &str,
        now: i64,
        audiences: &[String],
        followed: Option<&Trust>,
    ) -> Result<Claims> {
        let mut answer = Err(unauthorized("token: not known"));
        for trust in followed.into_iter().chain([&self.configured]) {
            if !trust.keys.is_empty() {
                let own = if audiences.is_empty() { trust.audiences.as_slice() } else { audiences };
                answer = claims(trust, token, now, own);
            }
            if answer.is_ok() {
                break;
            }
        }
        let claims = answer?;
        let Bound { namespace, serviceaccount, .. } = &claims.bound;
        if claims.sub != format!("{ACCOUNT_USER}{namespace}:{}", serviceaccount.name) {
            return Err(unauthorized("token: its subject is not its ServiceAccount"));
        }
        Ok(claims)
    }
}

fn account(bound: &Bound) -> Identity {
    let Bound { namespace, serviceaccount, .. } = bound;
    Identity {
        user: format!("{ACCOUNT_USER}{namespace}:{}", serviceaccount.name),
        groups: vec![
            ACCOUNTS.to_owned(),
            format!("{ACCOUNTS}:{namespace}"),
            AUTHENTICATED.to_owned(),
        ],
    }
}

/// What a token of this issuer for one of `audiences` says.
fn claims(trust: &Trust, token: &str, now: i64, audiences: &[String]) -> Result<Claims> {
    let text = pki::verify(&trust.keys, token, now, audiences)
        .map_err(|error| unauthorized(error.message))?;
    let claims: Claims = serde_json::from_str(&text)
        .map_err(|error| unauthorized(format!("token: not of a ServiceAccount: {error}")))?;
    if claims.iss == trust.issuer { Ok(claims) } else { Err(unauthorized("token: another issuer")) }
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
