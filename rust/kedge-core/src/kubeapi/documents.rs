// SPDX-License-Identifier: Apache-2.0
//! Documents that Python makes and Rust serves: discovery, `OpenAPI`, keys.
//!
//! A path may have several, one per media type; the client's `Accept` decides. `ETag` and
//! `If-None-Match` spare the transfer.
//!
//! A node keeps them as files and reads one when it is asked for.
//!
//! Old clients ask for `OpenAPI` as `...spec.v2@v1.0+protobuf`, and refuse that as the type of the
//! answer since `@` is not legal there: it is served as upstream does, with a dot.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use parking_lot::RwLock;

use super::accept::{Range, ranges};
use crate::{Error, Kind, Result};

/// One representation of a path.
#[derive(Clone)]
pub(super) struct Document {
    pub(super) media_type: String,
    pub(super) body: Bytes,
    /// Where the body is instead.
    file: Option<PathBuf>,
    /// Quoted, as in the header; empty when there is none.
    pub(super) etag: String,
}

/// What a lookup found.
pub(super) enum Found {
    /// Nothing at this path.
    Nothing,
    /// The path will be there in a moment.
    NotYet,
    /// The path is there, but not in a media type that the client takes.
    NotAcceptable,
    /// This one.
    Document(Document),
}

/// All documents by path; a path without any is expected.
#[derive(Default)]
pub(super) struct Documents(RwLock<HashMap<String, Vec<Document>>>);

impl Documents {
    /// Sets or replaces the representation of `path` in `media_type`.
    pub(super) fn set(&self, path: &str, media_type: &str, body: Bytes, etag: &str) {
        let etag = if etag.is_empty() || etag.starts_with('"') {
            etag.to_owned()
        } else {
            format!("\"{etag}\"")
        };
        self.put(path, Document { media_type: legal(media_type), body, etag, file: None });
    }

    /// Says that `path` will be there: until it is, clients are told to ask again.
    pub(super) fn expect(&self, path: &str) {
        self.0.write().entry(normal(path).to_owned()).or_default();
    }

    /// Takes the files of `directory`: its `index.json` lists name, path, media type and tag of each.
    pub(super) fn load(&self, directory: &Path) -> Result<()> {
        let index = std::fs::read(directory.join("index.json"))?;
        let rows: Vec<(String, String, String, String)> = serde_json::from_slice(&index)
            .map_err(|error| Error::new(Kind::Invalid, format!("index of documents: {error}")))?;
        for (name, path, media_type, tag) in rows {
            let file = Some(directory.join(name));
            let (media_type, etag) = (legal(&media_type), format!("\"{tag}\""));
            self.put(&path, Document { media_type, body: Bytes::new(), etag, file });
        }
        Ok(())
    }

    fn put(&self, path: &str, document: Document) {
        let mut all = self.0.write();
        let representations = all.entry(normal(path).to_owned()).or_default();
        representations.retain(|other| other.media_type != document.media_type);
        representations.push(document);
    }

    /// The representation of `path` for a client that accepts `header`.
    pub(super) fn find(&self, path: &str, header: &str) -> Found {
        let all = self.0.read();
        let Some(representations) = all.get(normal(path)) else { return Found::Nothing };
        if representations.is_empty() {
            return Found::NotYet;
        }
        let choose = |range: &Range<'_>| {
            representations.iter().find(|document| range.covers(&document.media_type)).cloned()
        };
        match ranges(&legal(header)).iter().find_map(choose) {
            Some(mut document) => match &document.file {
                None => Found::Document(document),
                Some(file) => match std::fs::read(file) {
                    Ok(body) => {
                        document.body = body.into();
                        Found::Document(document)
                    }
                    Err(error) => {
                        log::warn!("document {path}: {error}");
                        Found::Nothing
                    }
                },
            },
            None => Found::NotAcceptable,
        }
    }
}

fn legal(media_type: &str) -> String {
    media_type.replace('@', ".")
}

fn normal(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    if trimmed.is_empty() { "/" } else { trimmed }
}

/// Whether an `If-None-Match` header names `etag`.
pub(super) fn unchanged(if_none_match: &str, etag: &str) -> bool {
    let tags = if_none_match.split(',').map(|tag| tag.trim().trim_start_matches("W/"));
    !etag.is_empty() && tags.into_iter().any(|tag| tag == etag || tag == "*")
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

    fn served(documents: &Documents, path: &str, accept: &str) -> Option<Bytes> {
        match documents.find(path, accept) {
            Found::Document(document) => Some(document.body),
            Found::Nothing | Found::NotYet | Found::NotAcceptable => None,
        }
    }

    #[test]
    fn a_client_gets_the_first_representation_it_names() {
        let documents = Documents::default();
        documents.set("/apis", "application/json", Bytes::from("plain"), "");
        documents.set("/apis", AGGREGATED, Bytes::from("aggregated"), "");
        documents.set("/openapi/v2", PROTOBUF, Bytes::from("proto"), "");
        let both = format!("{AGGREGATED},application/json");
        assert_eq!(served(&documents, "/apis", &both).unwrap(), "aggregated");
        assert_eq!(served(&documents, "/apis/", "application/json").unwrap(), "plain");
        assert_eq!(served(&documents, "/apis", "application/json, */*").unwrap(), "plain");
        assert_eq!(served(&documents, "/openapi/v2", PROTOBUF).unwrap(), "proto");
        let Found::Document(found) = documents.find("/openapi/v2", PROTOBUF) else {
            panic!("served")
        };
        assert_eq!(found.media_type, "application/com.github.proto-openapi.spec.v2.v1.0+protobuf");
        assert!(served(&documents, "/openapi/v2", "application/json").is_none());
        assert!(served(&documents, "/nothing", "*/*").is_none());
    }

    #[test]
    fn a_known_tag_is_unchanged() {
        assert!(unchanged("\"a\", W/\"b\"", "\"b\""));
        assert!(!unchanged("\"a\"", "\"b\""));
        assert!(!unchanged("", ""));
    }

    #[test]
    fn what_is_expected_is_not_there_yet() {
        let documents = Documents::default();
        documents.expect("/openapi/v2");
        assert!(matches!(documents.find("/openapi/v2/", "*/*"), Found::NotYet));
        documents.set("/openapi/v2", "application/json", Bytes::from("made"), "");
        documents.expect("/openapi/v2");
        assert_eq!(served(&documents, "/openapi/v2", "*/*").unwrap(), "made");
    }
}
