// SPDX-License-Identifier: Apache-2.0
//! How a server shows what its store holds.
//!
//! A primary store's objects are shown as they lie there. Those of a replica carry the versions of
//! another store, and what the node itself reports (`pods/status`, `nodes/status`) lies beside
//! them: both are put in when an object is shown, and a change of a report is a change of the
//! object. A replica's versions are its revisions above a base, which is larger than the version
//! of any cluster and than those of an earlier store of the same node; so a version tells whose it
//! is, and one of a store that is gone is expired instead of meaning something else.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::object::parse;
use super::query::{ListOptions, VersionMatch};
use super::status::Failure;
use crate::Result;
use crate::store::{Event, EventKind, Key, ListQuery, Listed, Object, Page, Selector, Store};

/// What a node's reports are kept under, and what they are about; both of the core group.
const REPORTED: [(&str, &str); 2] = [("pods", "pods/status"), ("nodes", "nodes/status")];

/// The way of showing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Face {
    /// What a replica's versions begin at; a primary store has none.
    base: Option<u64>,
}

#[derive(Deserialize)]
struct Parts<'a> {
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    status: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Metadata<'a> {
    #[serde(borrow, rename = "resourceVersion")]
    version: Option<&'a RawValue>,
    #[serde(borrow)]
    uid: Option<&'a RawValue>,
}

impl Face {
    /// Of a replica whose versions begin at `base`.
    pub(super) fn replica(base: u64) -> Self {
        Self { base: Some(base) }
    }

    /// The version that a revision of the store is shown as.
    pub(super) fn version(self, revision: u64) -> u64 {
        revision.saturating_add(self.base.unwrap_or(0))
    }

    /// The revision that a version stands for, if it is one of this store.
    pub(super) fn revision(self, version: u64) -> Option<u64> {
        if version == 0 { Some(0) } else { version.checked_sub(self.base.unwrap_or(0)) }
    }

    /// Turns the versions in `options` into revisions.
    pub(super) fn translate(self, options: &mut ListOptions) -> Result<(), Failure> {
        let ours = |version: u64| {
            self.revision(version).ok_or_else(|| {
                let message = format!("resource version {version} is not one of this node's store");
                Failure::expired(message)
            })
        };
        options.start = options.start.map(ours).transpose()?;
        options.version = match options.version {
            VersionMatch::NotOlderThan(version) => VersionMatch::NotOlderThan(ours(version)?),
            VersionMatch::Exact(version) => VersionMatch::Exact(ours(version)?),
        };
        Ok(())
    }

    /// An object as it is shown.
    pub(super) fn get(self, store: &Store, key: &Key) -> Result<Option<Object>> {
        let Some(found) = store.get(key)? else { return Ok(None) };
        self.shown(store, key, &found.value, found.revision).map(Some)
    }

    /// A page of a list, its objects as they are shown.
    pub(super) fn list(self, store: &Store, mut query: ListQuery) -> Result<Page> {
        if self.base.is_none() {
            return store.list(&query);
        }
        let mut selector = None;
        if report_of(&query.group, &query.resource).is_some() && !query.fields.is_empty() {
            // A status can be selected only once it is there.
            selector = Some(Selector::parse("", &std::mem::take(&mut query.fields))?);
        }
        let mut page = store.list(&query)?;
        let mut items = Vec::with_capacity(page.items.len());
        for Listed { key, value, revision } in page.items {
            // What an older page holds does not say when it was changed.
            let revision = if revision == 0 { page.revision } else { revision };
            let Object { value, revision } = self.shown(store, &key, &value, revision)?;
            if selector.as_ref().is_none_or(|selector| selector.matches(&key, &value)) {
                items.push(Listed { key, value, revision });
            }
        }
        if selector.is_some() {
            page.remaining = None;
        }
        page.items = items;
        Ok(page)
    }

    /// What a watch of `resource` has to see.
    pub(super) fn watched(self, group: &str, resource: &str) -> Vec<(String, String)> {
        let mut watched = vec![(group.to_owned(), resource.to_owned())];
        let report = self.base.and_then(|_| report_of(group, resource));
        watched.extend(report.map(|report| (String::new(), report.to_owned())));
        watched
    }

    /// Whether selectors have to be applied to what is shown instead of to what is stored.
    pub(super) fn selects(self, group: &str, resource: &str) -> bool {
        self.base.is_some() && report_of(group, resource).is_some()
    }

    /// The key of the object that an event is about, and that object before and after it.
    pub(super) fn states(
        self,
        store: &Store,
        event: &Event,
    ) -> Result<(Key, Option<Bytes>, Option<Bytes>)> {
        let key = &event.key;
        let after = (event.kind == EventKind::Put).then_some(&event.value);
        let plain = || Ok((key.clone(), event.previous.clone(), after.cloned()));
        if self.base.is_none() || !key.group.is_empty() {
            return plain();
        }
        if let Some((resource, _)) = REPORTED.iter().find(|(_, report)| *report == key.resource) {
            let about = Key::new("", resource, &key.namespace, &key.name);
            let Some(object) = store.get(&about)? else { return Ok((about, None, None)) };
            let with = |report: Option<&Bytes>| match report {
                Some(report) => merge(&object.value, report),
                None => Ok(object.value.clone()),
            };
            let (before, after) = (with(event.previous.as_ref())?, with(after)?);
            return Ok((about, Some(before), Some(after)));
        }
        let Some(resource) = report_of("", &key.resource) else { return plain() };
        let report = store.get(&Key::new("", resource, &key.namespace, &key.name))?;
        let with = |value: Option<&Bytes>| match (value, &report) {
            (Some(value), Some(report)) => merge(value, &report.value).map(Some),
            (value, _) => Ok(value.cloned()),
        };
        Ok((key.clone(), with(event.previous.as_ref())?, with(after)?))
    }

    /// An object of `states` with the version of its change.
    pub(super) fn stamp(self, value: &Bytes, revision: u64) -> Result<Bytes> {
        if self.base.is_none() {
            return Ok(value.clone());
        }
        splice(value, None, Some(self.version(revision)))
    }

    /// The last state of an object that went, with the version of its going.
    pub(super) fn stamp_last(self, last: &Bytes, revision: u64) -> Result<Bytes> {
        if self.base.is_some() {
            return self.stamp(last, revision);
        }
        let mut object: Value = parse(last)?;
        if let Some(metadata) = object.get_mut("metadata") {
            metadata["resourceVersion"] = revision.to_string().into();
        }
        Ok(object.to_string().into())
    }

    /// An object of this `revision`, with what the node reports of it.
    pub(super) fn shown(
        self,
        store: &Store,
        key: &Key,
        value: &Bytes,
        revision: u64,
    ) -> Result<Object> {
        if self.base.is_none() {
            return Ok(Object { value: value.clone(), revision });
        }
        let report = match report_of(&key.group, &key.resource) {
            Some(report) => store.get(&Key::new("", report, &key.namespace, &key.name))?,
            None => None,
        };
        let newest = report.as_ref().map_or(revision, |report| report.revision.max(revision));
        let value = match report {
            Some(report) => merge(value, &report.value)?,
            None => value.clone(),
        };
        let value = splice(&value, None, Some(self.version(newest)))?;
        Ok(Object { value, revision: newest })
    }
}

fn report_of(group: &str, resource: &str) -> Option<&'static str> {
    let found = REPORTED.iter().find(|(about, _)| group.is_empty() && *about == resource);
    found.map(|(_, report)| *report)
}

/// An object with the status that was reported of it, unless that is of another one of its name.
fn merge(value: &Bytes, report: &[u8]) -> Result<Bytes> {
    let told: Parts<'_> = parse(report)?;
    let Some(status) = told.status else { return Ok(value.clone()) };
    if let Some(uid) = uid_of(told.metadata)? {
        let parts: Parts<'_> = parse(value)?;
        if uid_of(parts.metadata)? != Some(uid) {
            return Ok(value.clone());
        }
    }
    splice(value, Some(status.get()), None)
}

fn uid_of(metadata: Option<&RawValue>) -> Result<Option<&str>> {
    let Some(metadata) = metadata else { return Ok(None) };
    let found: Metadata<'_> = parse(metadata.get().as_bytes())?;
    Ok(found.uid.map(RawValue::get))
}

/// Puts a status, a version or both into an object's text; the rest stays byte for byte.
fn splice(value: &Bytes, status: Option<&str>, version: Option<u64>) -> Result<Bytes> {
    let parts: Parts<'_> = parse(value)?;
    let start = value.as_ptr() as usize;
    let place = |raw: &str| {
        let from = raw.as_ptr() as usize - start;
        (from, from + raw.len())
    };
    let mut changes: Vec<((usize, usize), String)> = Vec::with_capacity(2);
    if let (Some(version), Some(metadata)) = (version, parts.metadata) {
        let found: Metadata<'_> = parse(metadata.get().as_bytes())?;
        changes.push(if let Some(old) = found.version {
            (place(old.get()), format!("\"{version}\""))
        } else {
            let (from, _) = place(metadata.get());
            let comma = if metadata.get()[1..].trim_start() == "}" { "" } else { "," };
            ((from + 1, from + 1), format!("\"resourceVersion\":\"{version}\"{comma}"))
        });
    }
    if let Some(status) = status {
        changes.push(if let Some(old) = parts.status {
            (place(old.get()), status.to_owned())
        } else {
            let end = value.iter().rposition(|byte| *byte == b'}').unwrap_or(value.len());
            ((end, end), format!(",\"status\":{status}"))
        });
    }
    changes.sort_by_key(|(at, _)| *at);
    let more: usize = changes.iter().map(|(_, text)| text.len()).sum();
    let mut out = Vec::with_capacity(value.len() + more);
    let mut from = 0;
    for ((begin, end), text) in changes {
        out.extend_from_slice(&value[from..begin]);
        out.extend_from_slice(text.as_bytes());
        from = end;
    }
    out.extend_from_slice(&value[from..]);
    Ok(out.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spliced(value: &str, status: Option<&str>, version: Option<u64>) -> String {
        let bytes = splice(&Bytes::copy_from_slice(value.as_bytes()), status, version).unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn status_and_version_are_put_in_and_the_rest_stays() {
        for (value, status, version, want) in [
            (
                r#"{"metadata":{"name":"a"},"spec":{"n":1.0}}"#,
                Some("{}"),
                Some(7),
                r#"{"metadata":{"resourceVersion":"7","name":"a"},"spec":{"n":1.0},"status":{}}"#,
            ),
            (
                r#"{"status":{"phase":"Failed"},"metadata":{"resourceVersion":"123"}}"#,
                Some(r#"{"phase":"Running"}"#),
                Some(7),
                r#"{"status":{"phase":"Running"},"metadata":{"resourceVersion":"7"}}"#,
            ),
            (r#"{"metadata": { } }"#, None, Some(7), r#"{"metadata": {"resourceVersion":"7" } }"#),
            (r#"{"metadata":{}}"#, Some("1"), None, r#"{"metadata":{},"status":1}"#),
        ] {
            assert_eq!(spliced(value, status, version), want);
        }
    }

    #[test]
    fn a_report_counts_for_the_pod_that_it_is_of() {
        let pod = Bytes::from_static(br#"{"metadata":{"uid":"a"}}"#);
        let own = merge(&pod, br#"{"metadata":{"uid":"a"},"status":{"x":1}}"#).unwrap();
        assert_eq!(own, r#"{"metadata":{"uid":"a"},"status":{"x":1}}"#);
        let other = merge(&pod, br#"{"metadata":{"uid":"b"},"status":{"x":1}}"#).unwrap();
        assert_eq!(other, pod);
    }

    #[test]
    fn a_version_of_another_store_is_expired() {
        let face = Face::replica(1000);
        assert_eq!(face.version(5), 1005);
        assert_eq!(face.revision(1005), Some(5));
        assert_eq!((face.revision(0), face.revision(999)), (Some(0), None));
        assert_eq!(Face::default().revision(999), Some(999));
    }
}
