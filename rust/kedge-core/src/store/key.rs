// SPDX-License-Identifier: Apache-2.0
//! An object's name, and its bytes in LMDB: the four parts with a zero byte between.

use std::fmt;

use crate::{Error, Kind, Result};

/// LMDB's limit for keys.
const MAX_BYTES: usize = 511;

/// The name of one object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// API group, empty for core.
    pub group: String,
    /// The plural; a report of a subresource is kept under `pods/status` and the like.
    pub resource: String,
    /// Empty for cluster-scoped objects.
    pub namespace: String,
    /// The object's name.
    pub name: String,
}

impl Key {
    /// A key of these parts.
    pub fn new(group: &str, resource: &str, namespace: &str, name: &str) -> Self {
        Self {
            group: group.to_owned(),
            resource: resource.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// Its bytes; `Invalid` when a part has a zero byte, name or resource is empty, or all is too long.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let parts = [&self.group, &self.resource, &self.namespace, &self.name];
        if self.name.is_empty() || self.resource.is_empty() {
            return Err(Error::new(Kind::Invalid, format!("key without resource or name: {self}")));
        }
        if parts.iter().any(|part| part.contains('\0')) {
            return Err(Error::new(Kind::Invalid, format!("key with a zero byte: {self:?}")));
        }
        let bytes = join(&parts.map(String::as_str));
        if bytes.len() > MAX_BYTES {
            let message =
                format!("key longer than {MAX_BYTES} bytes: {} bytes: {self}", bytes.len());
            return Err(Error::new(Kind::Invalid, message));
        }
        Ok(bytes)
    }

    /// The key that `encode` made these bytes of.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let corrupt =
            || Error::new(Kind::Corrupt, format!("stored key has a wrong form: {bytes:?}"));
        let text = std::str::from_utf8(bytes).map_err(|_error| corrupt())?;
        let mut parts = text.split('\0');
        let mut next = || parts.next().ok_or_else(corrupt);
        let key = Self::new(next()?, next()?, next()?, next()?);
        if parts.next().is_some() { Err(corrupt()) } else { Ok(key) }
    }

    /// What all keys of a resource, and of a namespace unless it is empty, begin with.
    pub(crate) fn prefix(group: &str, resource: &str, namespace: &str) -> Vec<u8> {
        let mut bytes = join(&[group, resource]);
        bytes.push(0);
        if !namespace.is_empty() {
            bytes.extend_from_slice(namespace.as_bytes());
            bytes.push(0);
        }
        bytes
    }
}

fn join(parts: &[&str]) -> Vec<u8> {
    parts.join("\0").into_bytes()
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dot = if self.group.is_empty() { "" } else { "." };
        let slash = if self.namespace.is_empty() { "" } else { "/" };
        write!(
            formatter,
            "{}{dot}{} {}{slash}{}",
            self.resource, self.group, self.namespace, self.name
        )
    }
}
