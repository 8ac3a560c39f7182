// SPDX-License-Identifier: Apache-2.0
//! What an API server says in lists and watch events, read with as little parsing as possible.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{Error, Kind, Result};

/// A page of a list.
#[derive(Deserialize)]
pub(super) struct Page<'a> {
    #[serde(default)]
    kind: String,
    #[serde(default, rename = "apiVersion")]
    api_version: String,
    #[serde(default)]
    pub(super) metadata: PageMetadata,
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

/// Where a page stands.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PageMetadata {
    #[serde(default)]
    pub(super) resource_version: String,
    #[serde(default, rename = "continue")]
    pub(super) continue_token: String,
}

/// A line of a watch.
#[derive(Deserialize)]
pub(super) struct Line<'a> {
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(borrow)]
    pub(super) object: &'a RawValue,
}

/// What names an object and its version.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Named {
    pub(super) metadata: Metadata,
}

/// The part of an object's metadata that is looked at.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metadata {
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) namespace: String,
    #[serde(default)]
    pub(super) resource_version: String,
    #[serde(default)]
    pub(super) uid: String,
}

/// The part of a `Status` that is looked at.
#[derive(Default, Deserialize)]
pub(super) struct Status {
    #[serde(default)]
    pub(super) code: u16,
    #[serde(default)]
    pub(super) message: String,
}

/// Parses `text`; a failure means that the other end is no API server.
pub(super) fn read<'a, T: Deserialize<'a>>(text: &'a [u8], what: &str) -> Result<T> {
    serde_json::from_slice(text)
        .map_err(|error| Error::new(Kind::Rejected, format!("{what}: not understood: {error}")))
}

/// Whether what is stored is the object that `metadata` describes, in the same version. The uid tells
/// an object apart from one of the same name and version in a server that was set up anew.
pub(super) fn is_same(stored: &[u8], metadata: &Metadata) -> bool {
    serde_json::from_slice::<Named>(stored).is_ok_and(|found| {
        found.metadata.resource_version == metadata.resource_version
            && found.metadata.uid == metadata.uid
    })
}

impl Page<'_> {
    /// The items with their names, each with `kind` and `apiVersion`, which lists leave out.
    pub(super) fn objects(&self) -> Result<Vec<(Metadata, Bytes)>> {
        let kind = self.kind.strip_suffix("List").unwrap_or_default();
        let items = self.items.as_deref().unwrap_or_default();
        let object = |item: &&RawValue| {
            let text = item.get().as_bytes();
            let named: Named = read(text, "list item")?;
            Ok((named.metadata, typed(text, kind, &self.api_version)))
        };
        items.iter().map(object).collect()
    }
}

fn typed(item: &[u8], kind: &str, api_version: &str) -> Bytes {
    #[derive(Deserialize)]
    struct Typed<'a> {
        #[serde(borrow)]
        kind: Option<&'a RawValue>,
    }
    let has = serde_json::from_slice::<Typed<'_>>(item).is_ok_and(|found| found.kind.is_some());
    let rest = item.strip_prefix(b"{").map(<[u8]>::trim_ascii_start);
    match rest {
        Some(rest) if !has && !kind.is_empty() => {
            let comma = if rest.starts_with(b"}") { "" } else { "," };
            let head = format!("{{\"apiVersion\":\"{api_version}\",\"kind\":\"{kind}\"{comma}");
            [head.as_bytes(), rest].concat().into()
        }
        _ => Bytes::copy_from_slice(item),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_get_the_kind_that_the_list_keeps_from_them() {
        let text = br#"{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"7"},
            "items":[{"metadata":{"name":"a","namespace":"d","resourceVersion":"3"}},
                     {"kind":"Pod","apiVersion":"v1","metadata":{"name":"b"}}]}"#;
        let page: Page<'_> = read(text, "list").unwrap();
        let objects = page.objects().unwrap();
        assert!(objects[0].1.starts_with(br#"{"apiVersion":"v1","kind":"Pod","metadata":"#));
        assert!(objects[1].1.starts_with(br#"{"kind":"Pod""#));
        assert_eq!(objects[0].0.resource_version, "3");
        assert!(is_same(&objects[0].1, &objects[0].0));
        assert!(!is_same(&objects[0].1, &objects[1].0));
        let reborn = Metadata { uid: "another".into(), ..objects[0].0.clone() };
        assert!(!is_same(&objects[0].1, &reborn));
    }

    #[test]
    fn an_empty_list_may_have_null_items() {
        let page: Page<'_> = read(br#"{"kind":"PodList","items":null}"#, "list").unwrap();
        assert!(page.objects().unwrap().is_empty());
    }

    #[test]
    fn what_is_no_list_is_refused_with_a_word() {
        let error = read::<Page<'_>>(b"<html>", "list").err().unwrap();
        assert!(error.message.starts_with("list: not understood"), "{error}");
    }
}
