// SPDX-License-Identifier: Apache-2.0
//! GET and LIST, from stored bytes: nothing is parsed unless a person wants a table.

use std::collections::VecDeque;

use bytes::Bytes;
use futures_util::stream;
use http::Response;
use serde_json::json;
use time::OffsetDateTime;

use super::accept::Shape;
use super::body::{Body, JSON, answer, streamed};
use super::config::Resource;
use super::face::Face;
use super::object;
use super::path::Target;
use super::query::{ListOptions, VersionMatch};
use super::status::Failure;
use super::table::{self, Include};
use crate::store::{Key, ListQuery, Listed, Page, Store, token_for_now};
use crate::{Error, Kind};

/// Bytes of a list that are put together at a time.
const FRAME: usize = 64 * 1024;

/// How the answer is shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    pub(super) shape: Shape,
    pub(super) include: Include,
    pub(super) face: Face,
}

/// One object.
pub(super) fn get(
    store: &Store,
    resource: &Resource,
    target: &Target,
    version: u64,
    view: View,
) -> Result<Response<Body>, Failure> {
    not_older(store, version)?;
    let key = Key::new(&target.group, &target.resource, &target.namespace, &target.name);
    let Some(found) = view.face.get(store, &key)? else {
        return Err(Failure::not_found(&target.resource, &target.group, &target.name));
    };
    let body = match view.shape {
        Shape::Object => {
            if found.value.starts_with(b"{\"apiVersion\":")
                || found.value.starts_with(b"{\"kind\":")
            {
                found.value
            } else {
                let mut out = Vec::with_capacity(found.value.len() + 64);
                object::typed(&mut out, &found.value, resource)?;
                out.into()
            }
        }
        Shape::Metadata => {
            let mut out = Vec::new();
            object::metadata_only(&mut out, &found.value)?;
            out.into()
        }
        Shape::Table => {
            let version = view.face.version(found.revision);
            let metadata = format!("{{\"resourceVersion\":\"{version}\"}}");
            table_body(resource, &metadata, std::iter::once(&found.value), view.include)?.into()
        }
    };
    Ok(answer(200, JSON, body))
}

/// A list, as large as it is: its items go out piece by piece.
pub(super) fn list(
    store: &Store,
    resource: &Resource,
    target: &Target,
    options: &ListOptions,
    view: View,
) -> Result<Response<Body>, Failure> {
    let page = page(store, target, options, view.face)?;
    let metadata = list_metadata(&page, view.face);
    match view.shape {
        Shape::Table => {
            let values = page.items.iter().map(|item| &item.value);
            Ok(answer(200, JSON, table_body(resource, &metadata, values, view.include)?))
        }
        shape => Ok(items(page.items, resource.clone(), &metadata, shape)),
    }
}

/// What of the store a list asks for.
pub(super) fn page(
    store: &Store,
    target: &Target,
    options: &ListOptions,
    face: Face,
) -> Result<Page, Failure> {
    let at_revision = match options.version {
        VersionMatch::Exact(version) => {
            not_older(store, version)?;
            version
        }
        VersionMatch::NotOlderThan(version) => {
            not_older(store, version)?;
            0
        }
    };
    let query = ListQuery {
        group: target.group.clone(),
        resource: target.resource.clone(),
        namespace: target.namespace.clone(),
        labels: options.labels.clone(),
        fields: options.fields.clone(),
        limit: options.limit,
        continue_token: options.continue_token.clone(),
        at_revision,
    };
    face.list(store, query).map_err(|error| too_old(error, &options.continue_token))
}

const TOKEN_TOO_OLD: &str = "The provided continue parameter is too old to display a consistent list \
    result. You can start a new list without the continue parameter, or use the continue token in \
    this response to retrieve the remainder of the results. Continuing with the provided token \
    results in an inconsistent list - objects that were created, modified, or deleted between the \
    time the first chunk was returned and now may show up in the list.";

/// A list of a revision that is no longer kept; a paged one may go on at its place, as of now.
fn too_old(error: Error, token: &str) -> Failure {
    if error.kind != Kind::Gone {
        return error.into();
    }
    if token.is_empty() {
        return Failure::expired("The resourceVersion for the provided list is too old.");
    }
    match token_for_now(token) {
        Ok(token) => Failure { continue_token: token, ..Failure::expired(TOKEN_TOO_OLD) },
        Err(error) => error.into(),
    }
}

/// The newest revision; what a list saw may not have reached the watchers yet, so that one that
/// seems to be ahead is looked up in the file.
pub(super) fn newest(store: &Store, wanted: u64) -> crate::Result<u64> {
    let known = store.revision();
    if wanted <= known { Ok(known) } else { Ok(store.stats()?.revision) }
}

/// Refuses a version that is still to come, as it is of another store's history.
fn not_older(store: &Store, version: u64) -> Result<(), Failure> {
    let current = newest(store, version)?;
    if version <= current {
        return Ok(());
    }
    let message = format!("Too large resource version: {version}, current: {current}");
    let details = json!({
        "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
        "retryAfterSeconds": 1,
    });
    Err(Failure { details: Some(Box::new(details)), ..Failure::new(504, "Timeout", message) })
}

fn list_metadata(page: &Page, face: Face) -> String {
    let version = face.version(page.revision);
    let mut metadata = json!({"resourceVersion": version.to_string()});
    if !page.continue_token.is_empty() {
        metadata["continue"] = page.continue_token.as_str().into();
        if let Some(remaining) = page.remaining {
            metadata["remainingItemCount"] = remaining.into();
        }
    }
    metadata.to_string()
}

/// The list's frame around its items; small lists go out whole, so that they have a length.
fn items(found: Vec<Listed>, resource: Resource, metadata: &str, shape: Shape) -> Response<Body> {
    let (kind, version) = match shape {
        Shape::Metadata => ("PartialObjectMetadataList".to_owned(), "meta.k8s.io/v1"),
        _ => (format!("{}List", resource.row.kind), resource.api_version.as_str()),
    };
    let head = format!(
        "{{\"kind\":\"{kind}\",\"apiVersion\":\"{version}\",\"metadata\":{metadata},\"items\":["
    );
    let size: usize = found.iter().map(|item| item.value.len()).sum();
    let mut pieces = Pieces {
        items: found.into(),
        resource,
        shape,
        out: head.into_bytes(),
        first: true,
        ended: false,
    };
    if size < FRAME {
        return match pieces.next() {
            Some(Ok(whole)) => answer(200, JSON, whole),
            Some(Err(error)) => super::body::refusal(&Failure::from(error)),
            None => answer(200, JSON, Bytes::new()),
        };
    }
    let frames = std::iter::from_fn(move || pieces.next());
    streamed(JSON, stream::iter(frames.map(|piece| piece.map_err(std::io::Error::other))))
}

/// A list being written.
struct Pieces {
    items: VecDeque<Listed>,
    resource: Resource,
    shape: Shape,
    out: Vec<u8>,
    first: bool,
    ended: bool,
}

impl Pieces {
    fn next(&mut self) -> Option<crate::Result<Bytes>> {
        if self.ended {
            return None;
        }
        while let Some(item) = self.items.pop_front() {
            if !std::mem::take(&mut self.first) {
                self.out.push(b',');
            }
            if let Err(error) = append(&mut self.out, &item.value, &self.resource, self.shape) {
                self.ended = true;
                return Some(Err(error));
            }
            if self.out.len() >= FRAME {
                let fresh = Vec::with_capacity(self.out.len() + 8 * 1024);
                return Some(Ok(std::mem::replace(&mut self.out, fresh).into()));
            }
        }
        self.ended = true;
        self.out.extend_from_slice(b"]}");
        Some(Ok(std::mem::take(&mut self.out).into()))
    }
}

/// Appends one object as `shape` shows it (tables aside).
pub(super) fn append(
    out: &mut Vec<u8>,
    stored: &[u8],
    resource: &Resource,
    shape: Shape,
) -> crate::Result<()> {
    match shape {
        Shape::Metadata => object::metadata_only(out, stored),
        Shape::Object | Shape::Table => object::typed(out, stored, resource),
    }
}

/// A whole table.
pub(super) fn table_body<'a>(
    resource: &Resource,
    metadata: &str,
    values: impl Iterator<Item = &'a Bytes>,
    include: Include,
) -> crate::Result<Vec<u8>> {
    let printer = table::printer(&resource.row.group, &resource.row.resource);
    let columns = table::columns(printer);
    let mut out = format!(
        "{{\"kind\":\"Table\",\"apiVersion\":\"meta.k8s.io/v1\",\"metadata\":{metadata},\
         \"columnDefinitions\":{columns},\"rows\":["
    )
    .into_bytes();
    let now = OffsetDateTime::now_utc();
    for (index, value) in values.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        table::row(&mut out, printer, value, include, now)?;
    }
    out.extend_from_slice(b"]}");
    Ok(out)
}
