// SPDX-License-Identifier: Apache-2.0
//! What a store needs of an object's JSON, read without decoding the rest.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{Error, Kind, Result};

/// The parts of an object that indexes and selectors read.
#[derive(Debug, Default, Deserialize)]
pub struct Meta<'a> {
    /// `metadata`.
    #[serde(borrow, default)]
    pub metadata: ObjectMeta<'a>,
    /// `spec`, as far as it is read.
    #[serde(borrow, default, deserialize_with = "lenient")]
    pub spec: Spec<'a>,
}

/// `metadata`, as far as it is read.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectMeta<'a> {
    /// The object's uid.
    #[serde(borrow, default)]
    pub uid: Option<Cow<'a, str>>,
    /// Its labels.
    #[serde(borrow, default)]
    pub labels: Option<BTreeMap<Cow<'a, str>, Cow<'a, str>>>,
    /// Its owners.
    #[serde(borrow, default)]
    pub owner_references: Option<Vec<Owner<'a>>>,
}

/// One owner.
#[derive(Debug, Deserialize)]
pub struct Owner<'a> {
    /// The owner's uid.
    #[serde(borrow, default)]
    pub uid: Cow<'a, str>,
}

/// `spec`, as far as it is read.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec<'a> {
    /// The node that a pod is bound to.
    #[serde(borrow, default)]
    pub node_name: Option<Cow<'a, str>>,
}

/// A `spec` of another shape than ours is no error: custom objects have what they want.
fn lenient<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Spec<'de>, D::Error> {
    let raw: &'de RawValue = Deserialize::deserialize(deserializer)?;
    Ok(serde_json::from_str(raw.get()).unwrap_or_default())
}

impl<'a> Meta<'a> {
    /// Reads an object; `Invalid` when it is not a JSON object with a fitting `metadata`.
    pub fn of(value: &'a [u8]) -> Result<Self> {
        serde_json::from_slice(value)
            .map_err(|error| Error::new(Kind::Invalid, format!("not a JSON object: {error}")))
    }

    /// The labels, empty when there are none.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.metadata.labels.as_ref()?.get(key).map(AsRef::as_ref)
    }

    /// Index entries of the object: the node, then owners.
    pub(crate) fn node(&self) -> &str {
        self.spec.node_name.as_deref().unwrap_or_default()
    }

    /// The uids of its owners.
    pub(crate) fn owners(&self) -> Vec<&str> {
        let owners = self.metadata.owner_references.as_deref().unwrap_or_default();
        let mut uids: Vec<&str> =
            owners.iter().map(|owner| owner.uid.as_ref()).filter(|uid| !uid.is_empty()).collect();
        uids.sort_unstable();
        uids.dedup();
        uids
    }
}

#[derive(Deserialize)]
struct Versioned<'a> {
    #[serde(borrow, default)]
    metadata: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version<'a> {
    #[serde(borrow, default)]
    resource_version: Option<&'a RawValue>,
}

/// The same JSON with `metadata.resourceVersion` set; nothing else changes.
pub(crate) fn stamp(value: &[u8], revision: u64) -> Result<Vec<u8>> {
    let invalid = |error| Error::new(Kind::Invalid, format!("not a JSON object: {error}"));
    let found: Versioned<'_> = serde_json::from_slice(value).map_err(invalid)?;
    let metadata =
        found.metadata.ok_or_else(|| Error::new(Kind::Invalid, "object without metadata"))?.get();
    let version: Version<'_> = serde_json::from_str(metadata).map_err(invalid)?;
    let (from, until, text) = if let Some(old) = version.resource_version {
        let from = offset(value, old.get());
        (from, from + old.get().len(), format!("\"{revision}\""))
    } else {
        let from = offset(value, metadata) + 1;
        let comma = if metadata[1..].trim_start().starts_with('}') { "" } else { "," };
        (from, from, format!("\"resourceVersion\":\"{revision}\"{comma}"))
    };
    let mut stamped = Vec::with_capacity(value.len() + text.len());
    stamped.extend_from_slice(&value[..from]);
    stamped.extend_from_slice(text.as_bytes());
    stamped.extend_from_slice(&value[until..]);
    Ok(stamped)
}

fn offset(whole: &[u8], part: &str) -> usize {
    part.as_ptr() as usize - whole.as_ptr() as usize
}
