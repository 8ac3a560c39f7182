// SPDX-License-Identifier: Apache-2.0
//! Whose tokens count: the issuer of the configuration, and on a node the one that the cluster says.
//!
//! The latter is an object in every node's view; it is read again when it changed, so that a new key
//! counts as soon as it arrives, and tokens of a key that went count no more.

use std::sync::Arc;

use parking_lot::Mutex;
use serde::Deserialize;

use crate::store::{Key, Store};
use crate::{Result, pki};

/// An issuer and the keys that it signs with.
#[derive(Default)]
pub(super) struct Trust {
    pub(super) issuer: String,
    /// A token must name one of these.
    pub(super) audiences: Vec<String>,
    pub(super) keys: Vec<pki::VerifyingKey>,
}

/// The issuer that an object of the store names.
#[derive(Default)]
pub(super) struct Followed(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    /// The store's revision when it was looked at.
    looked: u64,
    /// The object's revision; none while there is no object.
    revision: Option<u64>,
    trust: Option<Arc<Trust>>,
}

#[derive(Deserialize)]
struct TokenIssuer {
    spec: Spec,
}

#[derive(Deserialize)]
struct Spec {
    issuer: String,
    #[serde(default)]
    audiences: Vec<String>,
    /// A JSON Web Key Set.
    jwks: String,
}

/// Where the object is.
fn key() -> Key {
    Key::new("kedge.io", "tokenissuers", "", "cluster")
}

impl Followed {
    /// The issuer now, and whether it is another than before.
    pub(super) fn current(&self, store: &Store) -> Result<(Option<Arc<Trust>>, bool)> {
        let newest = store.revision();
        let mut seen = self.0.lock();
        if seen.looked == newest && newest > 0 {
            return Ok((seen.trust.clone(), false));
        }
        seen.looked = newest;
        let found = store.get(&key())?;
        let revision = found.as_ref().map(|object| object.revision);
        if seen.revision == revision {
            return Ok((seen.trust.clone(), false));
        }
        seen.revision = revision;
        seen.trust = found.and_then(|object| read(&object.value)).map(Arc::new);
        Ok((seen.trust.clone(), true))
    }
}

/// The issuer in an object; one that cannot be used is none.
fn read(object: &[u8]) -> Option<Trust> {
    let parsed = serde_json::from_slice::<TokenIssuer>(object)
        .map_err(|error| log::warn!("the cluster's token issuer cannot be read: {error}"));
    let Spec { issuer, mut audiences, jwks } = parsed.ok()?.spec;
    let keys = pki::VerifyingKey::from_jwks(&jwks)
        .map_err(|error| log::warn!("the cluster's token issuer cannot be used: {error}"));
    if audiences.is_empty() {
        audiences.push(issuer.clone());
    }
    Some(Trust { issuer, audiences, keys: keys.ok()? })
}
