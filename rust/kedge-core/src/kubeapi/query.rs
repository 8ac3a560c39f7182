// SPDX-License-Identifier: Apache-2.0
//! Query strings, and the options of list and watch that they carry.

use crate::{Error, Kind, Result};

/// The decoded pairs of a query string, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Decodes `text`, the part of a URI after `?`.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name, true)?, decode(value, true)?))
        });
        Ok(Self(pairs.collect::<Result<_>>()?))
    }

    /// The first value of `name`, or the empty string.
    pub(super) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// Every value of `name`, in order.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether `name` is there and claims something, as Kubernetes reads booleans.
    pub(super) fn flag(&self, name: &str) -> Result<bool> {
        let found = self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        match found {
            None | Some("0" | "f" | "F" | "false" | "False" | "FALSE") => Ok(false),
            Some("" | "1" | "t" | "T" | "true" | "True" | "TRUE") => Ok(true),
            Some(other) => Err(bad(format!("{name}: wanted true or false, got: {other:?}"))),
        }
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>> {
        match self.get(name) {
            "" => Ok(None),
            text => text
                .parse()
                .map(Some)
                .map_err(|_unreadable| bad(format!("{name}: wanted a number, got: {text:?}"))),
        }
    }
}

/// How `resourceVersion` is meant in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum VersionMatch {
    /// The newest state, which must not be older than the version, if there is one.
    NotOlderThan(u64),
    /// The state at exactly this version.
    Exact(u64),
}

/// What a list or watch asks for.
#[derive(Clone, Debug)]
pub(super) struct ListOptions {
    pub(super) labels: String,
    pub(super) fields: String,
    pub(super) limit: usize,
    pub(super) continue_token: String,
    pub(super) version: VersionMatch,
    /// Whether a resourceVersion other than 0 was given: a watch then starts there.
    pub(super) start: Option<u64>,
    pub(super) bookmarks: bool,
    /// `sendInitialEvents`, when given.
    pub(super) initial_events: Option<bool>,
    pub(super) timeout_seconds: Option<u64>,
}

impl ListOptions {
    /// Reads the options and checks that they go together.
    pub(super) fn parse(query: &Query) -> Result<Self> {
        let version: Option<u64> = query.number("resourceVersion")?;
        let watch = query.flag("watch")?;
        let matching = query.get("resourceVersionMatch");
        let given = |name: &str| !query.get(name).is_empty();
        let initial_events =
            if given("sendInitialEvents") { Some(query.flag("sendInitialEvents")?) } else { None };
        if initial_events.is_some() && !watch {
            return Err(bad("sendInitialEvents: forbidden without watch"));
        }
        if initial_events.is_some() && matching != "NotOlderThan" {
            return Err(bad("resourceVersionMatch: sendInitialEvents wants NotOlderThan"));
        }
        if !watch && !matching.is_empty() && version.is_none() {
            return Err(bad("resourceVersionMatch: forbidden without resourceVersion"));
        }
        if watch && !matching.is_empty() && initial_events.is_none() {
            return Err(bad("resourceVersionMatch: forbidden for watch without sendInitialEvents"));
        }
        let continued = given("continue");
        if continued && version.is_some_and(|version| version != 0) {
            return Err(bad("specifying resource version is not allowed when using continue"));
        }
        Ok(Self {
            labels: query.get("labelSelector").to_owned(),
            fields: query.get("fieldSelector").to_owned(),
            limit: query.number("limit")?.unwrap_or(0),
            continue_token: query.get("continue").to_owned(),
            version: version_match(matching, version, given("limit"))?,
            start: version.filter(|version| *version != 0),
            bookmarks: query.flag("allowWatchBookmarks")?,
            initial_events,
            timeout_seconds: query.number("timeoutSeconds")?,
        })
    }
}

fn version_match(matching: &str, version: Option<u64>, limited: bool) -> Result<VersionMatch> {
    let version = version.unwrap_or(0);
    match matching {
        "Exact" if version == 0 => {
            Err(bad("resourceVersionMatch: Exact wants a resourceVersion other than 0"))
        }
        "Exact" => Ok(VersionMatch::Exact(version)),
        "" if limited && version != 0 => Ok(VersionMatch::Exact(version)),
        "" | "NotOlderThan" => Ok(VersionMatch::NotOlderThan(version)),
        other => {
            Err(bad(format!("resourceVersionMatch: wanted Exact or NotOlderThan, got: {other:?}")))
        }
    }
}

/// Undoes percent encoding; `plus` also turns `+` into a space, as in query strings.
pub(super) fn decode(text: &str, plus: bool) -> Result<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' if plus => out.push(b' '),
            b'%' => {
                let pair = bytes.next().and_then(hex).zip(bytes.next().and_then(hex));
                let (high, low) = pair.ok_or_else(|| bad("malformed percent encoding"))?;
                out.push(high << 4 | low);
            }
            other => out.push(other),
        }
    }
    String::from_utf8(out).map_err(|_error| bad("percent encoding that is not UTF-8"))
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

fn bad(message: impl Into<String>) -> Error {
    Error::new(Kind::Invalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> Result<ListOptions> {
        ListOptions::parse(&Query::parse(text)?)
    }

    #[test]
    fn pairs_are_decoded_and_the_first_one_counts() {
        let query = Query::parse("labelSelector=a%3Db%2Cc&x=1&x=2&e").unwrap();
        assert_eq!(query.get("labelSelector"), "a=b,c");
        assert_eq!(query.get("x"), "1");
        assert!(query.flag("e").unwrap());
        assert_eq!(query.get("absent"), "");
    }

    #[test]
    fn broken_encoding_and_numbers_are_refused() {
        for text in ["a=%", "a=%4", "a=%zz", "a=%ff"] {
            assert!(Query::parse(text).is_err(), "{text}");
        }
        for text in ["limit=-1", "limit=x", "resourceVersion=1x", "watch=maybe"] {
            assert!(options(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_version_means_what_kubernetes_says() {
        let version = |text: &str| options(text).unwrap().version;
        assert_eq!(version(""), VersionMatch::NotOlderThan(0));
        assert_eq!(version("resourceVersion=0"), VersionMatch::NotOlderThan(0));
        assert_eq!(version("resourceVersion=7"), VersionMatch::NotOlderThan(7));
        assert_eq!(version("resourceVersion=7&limit=3"), VersionMatch::Exact(7));
        assert_eq!(version("resourceVersion=7&resourceVersionMatch=Exact"), VersionMatch::Exact(7));
        for text in [
            "resourceVersionMatch=Exact",
            "resourceVersion=0&resourceVersionMatch=Exact",
            "resourceVersion=1&resourceVersionMatch=Near",
            "resourceVersion=3&continue=abc",
            "sendInitialEvents=true",
            "watch=1&sendInitialEvents=true",
            "watch=1&resourceVersion=1&resourceVersionMatch=NotOlderThan",
        ] {
            assert!(options(text).is_err(), "{text}");
        }
    }
}
