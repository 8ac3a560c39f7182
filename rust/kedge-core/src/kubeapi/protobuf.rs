// SPDX-License-Identifier: Apache-2.0
//! Single strings in a Kubernetes protobuf body, read and replaced without knowing the rest of it.
//!
//! A body is four magic bytes and an envelope (`runtime.Unknown`): field 1 says of what kind the object is that
//! field 2 holds. Every object has its metadata as field 1. The field numbers are Kubernetes' `generated.proto`.

use prost::encoding::{WireType, encode_varint};
use serde_json::{Map, Value};

use crate::wire::fields::fields;

const MAGIC: &[u8] = b"k8s\0";
/// `typeMeta` of the envelope, `kind`.
const KIND: &[u64] = &[1, 2];
/// `raw` of the envelope, `metadata`, `resourceVersion`.
const OF_OBJECT: &[u64] = &[2, 1, 6];
/// `raw` of the envelope, `preconditions` of `DeleteOptions`, `resourceVersion`.
const OF_DELETION: &[u64] = &[2, 2, 2];
/// `raw` of the envelope, `deleteOptions` of `Eviction`, `preconditions`, `resourceVersion`.
const OF_EVICTION: &[u64] = &[2, 2, 2, 2];

/// Where the version is that a body is about. In another kind of object the same numbers are something else.
pub(super) fn place_of_version(body: &[u8]) -> &'static [u64] {
    match text(body, KIND) {
        Some("DeleteOptions") => OF_DELETION,
        Some("Eviction") => OF_EVICTION,
        _ => OF_OBJECT,
    }
}

/// The string at `path`, if the body is of this format and has one.
pub(super) fn text<'a>(body: &'a [u8], path: &[u64]) -> Option<&'a str> {
    let mut at = body.strip_prefix(MAGIC)?;
    for number in path {
        at = inner_of(at, *number)?;
    }
    std::str::from_utf8(at).ok()
}

/// What a field of a message is, by its number and its name in JSON.
pub(super) enum Shape {
    Text,
    Texts,
    Object(&'static Table),
}

/// The fields of a message.
pub(super) type Table = [(u64, &'static str, Shape)];

/// The object's `spec` (field 2 of all that have one), with the fields that `table` names.
pub(super) fn spec(body: &[u8], table: &Table) -> Option<Value> {
    let mut at = body.strip_prefix(MAGIC)?;
    for _ in 0..2 {
        at = inner_of(at, 2).unwrap_or_default();
    }
    json_of(at, table)
}

fn json_of(message: &[u8], table: &Table) -> Option<Value> {
    let mut object = Map::new();
    for field in fields(message) {
        let field = field.ok()?;
        let Some((_, name, shape)) = table.iter().find(|(number, ..)| *number == field.number)
        else {
            continue;
        };
        let inner = field.inner?;
        let text = || std::str::from_utf8(inner).ok().map(Value::from);
        match shape {
            Shape::Text => drop(object.insert((*name).to_owned(), text()?)),
            Shape::Texts => {
                let list = object.entry(*name).or_insert_with(|| Value::Array(Vec::new()));
                list.as_array_mut()?.push(text()?);
            }
            Shape::Object(table) => drop(object.insert((*name).to_owned(), json_of(inner, table)?)),
        }
    }
    Some(object.into())
}

/// The body with `value` for the string at `path`.
pub(super) fn replaced(body: &[u8], path: &[u64], value: &str) -> Option<Vec<u8>> {
    let mut out = MAGIC.to_vec();
    out.extend(rewritten(body.strip_prefix(MAGIC)?, path, value)?);
    Some(out)
}

fn rewritten(message: &[u8], path: &[u64], value: &str) -> Option<Vec<u8>> {
    let Some((number, below)) = path.split_first() else { return Some(value.into()) };
    let mut out = Vec::with_capacity(message.len() + 8);
    for field in fields(message) {
        let field = field.ok()?;
        match field.inner {
            Some(inner) if field.number == *number => {
                let inner = rewritten(inner, below, value)?;
                encode_varint(number << 3 | WireType::LengthDelimited as u64, &mut out);
                encode_varint(inner.len() as u64, &mut out);
                out.extend(inner);
            }
            _ => out.extend_from_slice(field.whole),
        }
    }
    Some(out)
}

/// What the field of this number has, if it is one with a length.
fn inner_of(message: &[u8], number: u64) -> Option<&[u8]> {
    let mut fields = fields(message).map_while(Result::ok);
    fields.find_map(|field| field.inner.filter(|_| field.number == number))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn with(number: u8, inner: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2, u8::try_from(inner.len()).unwrap()];
        out.extend_from_slice(inner);
        out
    }

    /// A body with fields around what is looked for: `metadata{name, resourceVersion, generation}`.
    pub(in crate::kubeapi) fn object(version: &str) -> Vec<u8> {
        let metadata =
            [with(1, b"web"), with(6, version.as_bytes()), vec![7 << 3, 0x96, 1]].concat();
        let raw = [with(1, &metadata), with(2, b"spec"), vec![3 << 3 | 5, 1, 2, 3, 4]].concat();
        [MAGIC, &with(1, b"\x0a\x02v1"), &with(2, &raw)].concat()
    }

    /// A body of this kind with text at `path` below the envelope.
    pub(in crate::kubeapi) fn of_kind(kind: &str, path: &[u8], text: &str) -> Vec<u8> {
        let raw =
            path.iter().rfold(text.as_bytes().to_vec(), |inner, number| with(*number, &inner));
        [MAGIC, &with(1, &with(2, kind.as_bytes())), &raw].concat()
    }

    #[test]
    fn the_string_is_found_and_replaced_and_the_rest_stays() {
        let body = object("1800000000000007");
        assert_eq!(text(&body, OF_OBJECT), Some("1800000000000007"));
        assert_eq!(replaced(&body, OF_OBJECT, "7").unwrap(), object("7"));
        assert_eq!(text(&body, OF_DELETION), None);
    }

    #[test]
    fn a_spec_is_read_by_a_table() {
        const INNER: &Table = &[(2, "verb", Shape::Text), (5, "resource", Shape::Text)];
        const TABLE: &Table = &[(1, "asked", Shape::Object(INNER)), (4, "groups", Shape::Texts)];
        let asked = [with(2, b"get"), with(5, b"pods"), with(9, b"more")].concat();
        let spec_bytes = [with(1, &asked), with(4, b"a"), with(4, b"b")].concat();
        let raw = [with(1, b""), with(2, &spec_bytes)].concat();
        let body = [MAGIC, &with(2, &raw)].concat();
        let want =
            serde_json::json!({"asked": {"verb": "get", "resource": "pods"}, "groups": ["a", "b"]});
        assert_eq!(spec(&body, TABLE), Some(want));
        assert_eq!(spec(&[MAGIC, &with(2, b"")].concat(), TABLE), Some(serde_json::json!({})));
        assert_eq!(spec(b"k8s\0\x12\x05\x12", TABLE), Some(serde_json::json!({})));
        assert_eq!(spec(b"{}", TABLE), None);
    }

    #[test]
    fn what_is_broken_or_another_format_has_none() {
        let body = object("12");
        for length in 0..body.len() {
            // Never a panic, and never another string than the one that is there.
            assert!(matches!(text(&body[..length], OF_OBJECT), None | Some("12")), "{length}");
            assert!(
                replaced(&body[..length], OF_OBJECT, "7").is_none_or(|out| out.len() < body.len())
            );
        }
        assert_eq!(text(b"{}", OF_OBJECT), None);
        assert_eq!(text(b"k8s\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", OF_OBJECT), None);
    }
}
