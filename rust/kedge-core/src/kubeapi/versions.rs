// SPDX-License-Identifier: Apache-2.0
//! The resource versions in a body: where the API looks for them, found and replaced.
//!
//! JSON objects have them in their metadata and preconditions, JSON patches as the value of an operation,
//! YAML (server-side apply) on a line, protobuf in a field.

use bytes::Bytes;
use serde_json::Value;

use super::protobuf;
use super::status::Failure;

const PLACES: [&str; 3] = [
    "/metadata/resourceVersion",
    "/preconditions/resourceVersion",
    "/deleteOptions/preconditions/resourceVersion",
];

/// A body's versions of this node.
pub(super) struct Versions {
    text: Text,
    found: Vec<u64>,
}

enum Text {
    Json(Value, Vec<String>),
    Lines(String),
    Protobuf(Bytes, &'static [u64]),
}

impl Versions {
    /// Those in a body of this media type that `is_ours` knows.
    pub(super) fn find(media_type: &str, body: &Bytes, is_ours: impl Fn(u64) -> bool) -> Self {
        if let Ok(value) = serde_json::from_slice::<Value>(body) {
            let mut places = places(&value);
            let mut found = Vec::new();
            places.retain(|place| {
                let text = value.pointer(place).and_then(Value::as_str);
                let ours = text.and_then(|text| text.parse().ok()).filter(|one| is_ours(*one));
                found.extend(ours);
                ours.is_some()
            });
            return Self { text: Text::Json(value, places), found };
        }
        if media_type.contains("yaml") {
            let text = String::from_utf8_lossy(body).into_owned();
            let found = text.lines().filter_map(on_line).filter(|one| is_ours(*one)).collect();
            return Self { text: Text::Lines(text), found };
        }
        let place = protobuf::place_of_version(body);
        let found = protobuf::text(body, place).and_then(|text| text.parse().ok());
        let found = found.filter(|one| is_ours(*one)).into_iter().collect();
        Self { text: Text::Protobuf(body.clone(), place), found }
    }

    /// The one version, if any.
    pub(super) fn only(&self) -> Result<Option<u64>, Failure> {
        let Some(first) = self.found.first() else { return Ok(None) };
        if self.found.iter().all(|one| one == first) {
            return Ok(Some(*first));
        }
        let message = "resourceVersion: wanted the same in metadata and preconditions";
        Err(Failure::new(400, "BadRequest", message))
    }

    /// The body with `other` in their place.
    pub(super) fn replaced(&mut self, other: &str) -> Bytes {
        match &mut self.text {
            Text::Json(value, places) => {
                for place in places {
                    if let Some(found) = value.pointer_mut(place) {
                        *found = other.into();
                    }
                }
                value.to_string().into()
            }
            Text::Lines(text) => {
                let known = |line: &str| on_line(line).filter(|one| self.found.contains(one));
                let lines = text.split_inclusive('\n').map(|line| match known(line) {
                    Some(ours) => line.replacen(&ours.to_string(), other, 1),
                    None => line.to_owned(),
                });
                lines.collect::<String>().into()
            }
            Text::Protobuf(body, place) => {
                protobuf::replaced(body, place, other).map_or_else(|| body.clone(), Bytes::from)
            }
        }
    }
}

fn places(value: &Value) -> Vec<String> {
    let Value::Array(operations) = value else {
        return PLACES.iter().map(|place| (*place).to_owned()).collect();
    };
    let about = |one: &Value| one.get("path").and_then(Value::as_str) == Some(PLACES[0]);
    let numbered = operations.iter().enumerate().filter(|(_, one)| about(one));
    numbered.map(|(index, _)| format!("/{index}/value")).collect()
}

fn on_line(line: &str) -> Option<u64> {
    let value = line.trim().strip_prefix("resourceVersion:")?;
    value.trim().trim_matches(['"', '\'']).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: u64 = 1_800_000_000_000_007;

    fn is_ours(version: u64) -> bool {
        version >= 1_800_000_000_000_000
    }

    fn translated(media_type: &str, body: &str) -> Result<Option<String>, u16> {
        let body = Bytes::copy_from_slice(body.as_bytes());
        let mut versions = Versions::find(media_type, &body, is_ours);
        let found = versions.only().map_err(|why| why.code)?;
        Ok(found.map(|_| String::from_utf8(versions.replaced("7").to_vec()).unwrap()))
    }

    #[test]
    fn versions_of_this_node_are_replaced_where_the_api_looks_for_them() {
        let json = "application/json";
        for (media_type, body, want) in [
            (
                json,
                format!(
                    r#"{{"metadata":{{"resourceVersion":"{OURS}"}},"data":{{"resourceVersion":"{OURS}"}}}}"#
                ),
                format!(
                    r#"{{"metadata":{{"resourceVersion":"7"}},"data":{{"resourceVersion":"{OURS}"}}}}"#
                ),
            ),
            (
                json,
                format!(r#"{{"preconditions":{{"resourceVersion":"{OURS}"}}}}"#),
                r#"{"preconditions":{"resourceVersion":"7"}}"#.to_owned(),
            ),
            (
                "application/json-patch+json",
                format!(
                    r#"[{{"op":"test","path":"/metadata/resourceVersion","value":"{OURS}"}},{{"op":"add","path":"/data/a","value":"{OURS}"}}]"#
                ),
                format!(
                    r#"[{{"op":"test","path":"/metadata/resourceVersion","value":"7"}},{{"op":"add","path":"/data/a","value":"{OURS}"}}]"#
                ),
            ),
            (
                "application/apply-patch+yaml",
                format!("metadata:\n  resourceVersion: \"{OURS}\"\n  name: a\n"),
                "metadata:\n  resourceVersion: \"7\"\n  name: a\n".to_owned(),
            ),
        ] {
            assert_eq!(translated(media_type, &body), Ok(Some(want)));
        }
    }

    #[test]
    fn others_are_left_alone() {
        for (media_type, body) in [
            ("application/json", r#"{"metadata":{"resourceVersion":"12"}}"#),
            ("application/json", r#"{"metadata":{"resourceVersion":12}}"#),
            ("application/json", "{}"),
            ("application/yaml", "metadata:\n  resourceVersion: '12'\n"),
            ("application/vnd.kubernetes.protobuf", "k8s\0\x02\x0212345"),
        ] {
            assert_eq!(translated(media_type, body), Ok(None), "{body}");
        }
    }

    #[test]
    fn protobuf_is_translated_too() {
        let media_type = "application/vnd.kubernetes.protobuf";
        let body = Bytes::from(protobuf::tests::object(&OURS.to_string()));
        let mut versions = Versions::find(media_type, &body, is_ours);
        assert_eq!(versions.only().unwrap(), Some(OURS));
        assert_eq!(versions.replaced("7"), protobuf::tests::object("7"));
        let theirs = Bytes::from(protobuf::tests::object("12"));
        assert_eq!(Versions::find(media_type, &theirs, is_ours).only().unwrap(), None);
    }

    #[test]
    fn preconditions_are_translated_and_numbers_elsewhere_are_not() {
        let media_type = "application/vnd.kubernetes.protobuf";
        let ours = OURS.to_string();
        let of_kind = protobuf::tests::of_kind;
        for (kind, path) in [("DeleteOptions", &[2, 2, 2][..]), ("Eviction", &[2, 2, 2, 2])] {
            let body = Bytes::from(of_kind(kind, path, &ours));
            let mut versions = Versions::find(media_type, &body, is_ours);
            assert_eq!(versions.only().unwrap(), Some(OURS));
            assert_eq!(versions.replaced("7"), of_kind(kind, path, "7"));
        }
        let data = Bytes::from(of_kind("ConfigMap", &[2, 2, 2], &ours));
        assert_eq!(Versions::find(media_type, &data, is_ours).only().unwrap(), None);
    }

    #[test]
    fn two_different_ones_are_refused() {
        let two = format!(
            r#"{{"metadata":{{"resourceVersion":"{OURS}"}},"preconditions":{{"resourceVersion":"{}"}}}}"#,
            OURS + 1
        );
        assert_eq!(translated("application/json", &two), Err(400));
    }
}
