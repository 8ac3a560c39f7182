// SPDX-License-Identifier: Apache-2.0
//! What is told of a request's way, without a server; the whole is tested from Python.

use http::HeaderValue;
use serde_json::json;

use super::super::body::{JSON, answer, streamed};
use super::*;

fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
    let pair = |(name, text): &(HeaderName, &str)| (name.clone(), text.parse().unwrap());
    pairs.iter().map(pair).collect::<HeaderMap<HeaderValue>>()
}

#[test]
fn an_id_is_the_clients_own_if_it_is_one() {
    assert_eq!(id(&headers(&[(ID, "mine-1")])), "mine-1");
    let long = "x".repeat(MAX_ID + 1);
    for bad in ["", "a b", "\"", long.as_str()] {
        let made = id(&headers(&[(ID, bad)]));
        assert_eq!((made.len(), made.matches('-').count()), (36, 4), "{bad}: {made}");
        assert_eq!(made.as_bytes()[14], b'4');
    }
}

#[test]
fn addresses_are_those_that_are_said_and_the_one_that_is_seen() {
    let said = headers(&[(FORWARDED, "10.0.0.1, nonsense, fd00::1"), (REAL, "10.0.0.1")]);
    let mut extensions = Extensions::new();
    extensions.insert(Remote("[::ffff:127.0.0.1]:1".parse().unwrap()));
    assert_eq!(addresses(&said, &extensions), ["10.0.0.1", "fd00::1", "127.0.0.1"]);
    let many = vec!["10.0.0.1"; 100].join(",").replace("0.1,", "0.2,10.0.0.1,");
    assert!(addresses(&headers(&[(FORWARDED, &many)]), &extensions).len() <= MAX_ADDRESSES + 1);
}

#[tokio::test]
async fn an_answer_goes_on_as_it_was_and_its_object_is_kept_if_wanted() {
    let object = json!({"kind": "Status", "code": 404});
    for (level, kept) in [(Level::Metadata, false), (Level::RequestResponse, true)] {
        let mut found = Outcome::default();
        let response = answer(404, JSON, object.to_string());
        let response = look(response, level, &mut found).await;
        assert_eq!(response.status(), 404);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, object.to_string());
        assert_eq!(found.status.as_ref(), Some(&object));
        assert_eq!(found.response.is_some(), kept);
    }
}

#[tokio::test]
async fn an_answer_in_pieces_is_kept_unless_it_is_too_long() {
    let half = LARGE / 2 + 1;
    for (pieces, kept) in [(vec!["[1,", "2]"], true), (vec![&*"1".repeat(half); 3], false)] {
        let whole = pieces.concat();
        let pieces = pieces.into_iter().map(|piece| Ok(Bytes::from(piece.to_owned())));
        let response = streamed(JSON, stream::iter(pieces.collect::<Vec<_>>()));
        let mut found = Outcome::default();
        let response = look(response, Level::RequestResponse, &mut found).await;
        assert_eq!((found.response.is_some(), found.is_cut), (kept, !kept));
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(body == whole);
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_breaks_off() {
    let pieces = stream::iter([Ok(Bytes::from_static(b"{")), Err(std::io::Error::other("gone"))]);
    let mut found = Outcome::default();
    let response = look(streamed(JSON, pieces), Level::RequestResponse, &mut found).await;
    assert!(response.into_body().collect().await.is_err());
}

#[test]
fn what_was_told_becomes_the_outcome() {
    let seen = Seen::default();
    let mut extensions = Extensions::new();
    Seen::allowed(&extensions);
    assert_eq!(outcome(&seen, Level::Request, 403).allowed, Some(false));
    assert_eq!(outcome(&seen, Level::Request, 401).allowed, None);
    extensions.insert(seen.clone());
    Seen::allowed(&extensions);
    Seen::body(&extensions, &Bytes::from_static(b"{\"a\":1}"));
    assert_eq!(outcome(&seen, Level::Metadata, 201).request, None);
    let found = outcome(&seen, Level::Request, 403);
    assert_eq!((found.allowed, found.request), (Some(true), Some(json!({"a": 1}))));
}
