// SPDX-License-Identifier: Apache-2.0
//! Stored JSON, touched as little as possible: spliced, never rebuilt.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::config::Resource;
use crate::{Error, Kind, Result};

#[derive(Deserialize)]
struct Typed<'a> {
    #[serde(borrow, rename = "apiVersion")]
    api_version: Option<&'a RawValue>,
    #[serde(borrow)]
    kind: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Described<'a> {
    #[serde(borrow)]
    metadata: &'a RawValue,
}

/// Parses stored bytes; a failure means the store holds what is no object.
pub(super) fn parse<'a, T: Deserialize<'a>>(stored: &'a [u8]) -> Result<T> {
    serde_json::from_slice(stored)
        .map_err(|error| Error::new(Kind::Corrupt, format!("stored object: {error}")))
}

/// Appends a stored object with its `apiVersion` and `kind`, adding them when they are not there.
pub(super) fn typed(out: &mut Vec<u8>, stored: &[u8], resource: &Resource) -> Result<()> {
    if is_typed(stored)? {
        out.extend_from_slice(stored);
        return Ok(());
    }
    let rest = stored.strip_prefix(b"{").unwrap_or_default();
    let (kind, version) = (&resource.row.kind, &resource.api_version);
    let head = format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{version}\"");
    out.extend_from_slice(head.as_bytes());
    if rest != b"}" {
        out.push(b',');
    }
    out.extend_from_slice(rest);
    Ok(())
}

fn is_typed(stored: &[u8]) -> Result<bool> {
    if stored.starts_with(b"{\"apiVersion\":") || stored.starts_with(b"{\"kind\":") {
        return Ok(true);
    }
    let found: Typed<'_> = parse(stored)?;
    Ok(found.api_version.is_some() && found.kind.is_some())
}

/// Appends the object's metadata as a `PartialObjectMetadata`.
pub(super) fn metadata_only(out: &mut Vec<u8>, stored: &[u8]) -> Result<()> {
    let found: Described<'_> = parse(stored)?;
    out.extend_from_slice(
        b"{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"meta.k8s.io/v1\",\"metadata\":",
    );
    out.extend_from_slice(found.metadata.get().as_bytes());
    out.push(b'}');
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pods() -> Resource {
        let rows = serde_json::from_value::<Vec<super::super::config::ResourceRow>>(json!([
            {"group": "", "version": "v1", "kind": "Pod", "resource": "pods", "namespaced": true}
        ]));
        let target = super::super::path::Target {
            version: "v1".into(),
            resource: "pods".into(),
            ..Default::default()
        };
        super::super::config::Catalogue::new(&rows.unwrap()).find(&target).unwrap().clone()
    }

    #[test]
    fn kind_and_version_are_added_only_where_missing() {
        for (stored, want) in [
            (r#"{"kind":"Pod","apiVersion":"v1"}"#, r#"{"kind":"Pod","apiVersion":"v1"}"#),
            (
                r#"{"a":1,"kind":"Pod","apiVersion":"v1"}"#,
                r#"{"a":1,"kind":"Pod","apiVersion":"v1"}"#,
            ),
            (r#"{"a":1}"#, r#"{"kind":"Pod","apiVersion":"v1","a":1}"#),
            ("{}", r#"{"kind":"Pod","apiVersion":"v1"}"#),
        ] {
            let mut out = Vec::new();
            typed(&mut out, stored.as_bytes(), &pods()).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), want);
        }
    }

    #[test]
    fn metadata_is_passed_on_as_it_is() {
        let mut out = Vec::new();
        metadata_only(&mut out, br#"{"spec":{},"metadata":{"name":"a","x":[1]}}"#).unwrap();
        let shown: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(shown["metadata"], json!({"name": "a", "x": [1]}));
        assert_eq!(shown["kind"], "PartialObjectMetadata");
    }
}
