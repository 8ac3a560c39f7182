// SPDX-License-Identifier: Apache-2.0
//! What a store needs of an object's JSON, read without decoding the rest.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::store::record::Links;
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

    /// What the object is indexed by.
    pub(crate) fn links(&self) -> Links {
        let owners = self.metadata.owner_references.as_deref().unwrap_or_default();
        let mut owners: Vec<String> = owners
            .iter()
            .map(|owner| owner.uid.to_string())
            .filter(|uid| !uid.is_empty())
            .collect();
        owners.sort_unstable();
        owners.dedup();
        Links { node: self.spec.node_name.as_deref().unwrap_or_default().to_owned(), owners }
    }
}

#[derive(Deserialize)]
struct Whole<'a> {
    #[serde(borrow, default)]
    metadata: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "lenient")]
    spec: Spec<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version<'a> {
    #[serde(borrow, default)]
    resource_version: Option<&'a RawValue>,
    #[serde(borrow, default)]
    owner_references: Option<Vec<Owner<'a>>>,
}

/// What a write needs of an object's JSON, read once on the writer's own thread.
pub(crate) struct Parsed {
    pub(crate) links: Links,
    /// Where `metadata.resourceVersion` is, or goes.
    from: usize,
    until: usize,
    comma: bool,
}

impl Parsed {
    /// Reads an object; `Invalid` when it is not a JSON object with a `metadata` object.
    pub(crate) fn of(value: &[u8]) -> Result<Self> {
        let invalid = |error| Error::new(Kind::Invalid, format!("not a JSON object: {error}"));
        let whole: Whole<'_> = serde_json::from_slice(value).map_err(invalid)?;
        let metadata = whole
            .metadata
            .ok_or_else(|| Error::new(Kind::Invalid, "object without metadata"))?
            .get();
        let version: Version<'_> = serde_json::from_str(metadata).map_err(invalid)?;
        let (from, until) = if let Some(old) = version.resource_version {
            let from = offset(value, old.get());
            (from, from + old.get().len())
        } else {
            let from = offset(value, metadata) + 1;
            (from, from)
        };
        let comma = !metadata[1..].trim_start().starts_with('}');
        let owner_references = version.owner_references;
        let meta = Meta {
            metadata: ObjectMeta { owner_references, ..ObjectMeta::default() },
            spec: whole.spec,
        };
        Ok(Self { links: meta.links(), from, until, comma })
    }

    /// The same JSON with `metadata.resourceVersion` set; nothing else changes.
    pub(crate) fn stamp(&self, value: &[u8], revision: u64) -> Vec<u8> {
        let text = if self.from < self.until {
            format!("\"{revision}\"")
        } else {
            format!("\"resourceVersion\":\"{revision}\"{}", if self.comma { "," } else { "" })
        };
        let mut stamped = Vec::with_capacity(value.len() + text.len());
        stamped.extend_from_slice(&value[..self.from]);
        stamped.extend_from_slice(text.as_bytes());
        stamped.extend_from_slice(&value[self.until..]);
        stamped
    }
}

fn offset(whole: &[u8], part: &str) -> usize {
    part.as_ptr() as usize - whole.as_ptr() as usize
}
