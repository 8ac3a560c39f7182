// SPDX-License-Identifier: Apache-2.0
//! Words that several printers share: ages, selectors, lists, and safe access into objects.

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// What stands for nothing.
pub(super) const NONE: &str = "<none>";
/// What stands for a time that is not there.
pub(super) const UNKNOWN: &str = "<unknown>";

/// What stands for a field that nobody set.
pub(super) const UNSET: &str = "<unset>";

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const YEAR: i64 = 365 * DAY;

/// The string at a JSON pointer, or the empty string.
pub(super) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

/// The string at a JSON pointer, or `<none>`.
pub(super) fn text_or_none(object: &Value, pointer: &str) -> String {
    or_none(text(object, pointer).to_owned())
}

/// `text`, or `<none>` when it is empty.
pub(super) fn or_none(text: String) -> String {
    if text.is_empty() { NONE.to_owned() } else { text }
}

/// The string at a JSON pointer, or another where there is none.
pub(super) fn text_or<'a>(object: &'a Value, pointer: &str, other: &'a str) -> &'a str {
    match text(object, pointer) {
        "" => other,
        found => found,
    }
}

/// Whether the boolean at a JSON pointer is there and true.
pub(super) fn flag(object: &Value, pointer: &str) -> bool {
    object.pointer(pointer).and_then(Value::as_bool).unwrap_or(false)
}

/// A number or a string as a person writes it: `2`, `50%`; another word where there is none.
pub(super) fn scalar(object: &Value, pointer: &str, other: &str) -> String {
    match object.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => other.to_owned(),
    }
}

/// The number at a JSON pointer, or zero.
pub(super) fn number(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0)
}

/// The elements at a JSON pointer, or none.
pub(super) fn items<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// How many entries the mapping at a JSON pointer has.
pub(super) fn entries(object: &Value, pointer: &str) -> usize {
    object.pointer(pointer).and_then(Value::as_object).map_or(0, serde_json::Map::len)
}

/// A time as Kubernetes writes it.
pub(super) fn time(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok()
}

/// The time since the timestamp at a JSON pointer.
pub(super) fn since(object: &Value, pointer: &str, now: OffsetDateTime) -> String {
    time(text(object, pointer)).map_or_else(|| UNKNOWN.to_owned(), |then| elapsed(then, now))
}

/// The age of an object.
pub(super) fn age(object: &Value, now: OffsetDateTime) -> String {
    since(object, "/metadata/creationTimestamp", now)
}

/// A duration in the two most telling units, as kubectl writes it.
pub(super) fn elapsed(then: OffsetDateTime, now: OffsetDateTime) -> String {
    let seconds = (now - then).whole_seconds();
    let pair = |large: i64, unit: &str, small: i64, below: &str| {
        if small == 0 { format!("{large}{unit}") } else { format!("{large}{unit}{small}{below}") }
    };
    match seconds {
        i64::MIN..=-2 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 => pair(seconds / MINUTE, "m", seconds % MINUTE, "s"),
        600..10_800 => format!("{}m", seconds / MINUTE),
        10_800..28_800 => pair(seconds / HOUR, "h", seconds % HOUR / MINUTE, "m"),
        28_800..172_800 => format!("{}h", seconds / HOUR),
        172_800..691_200 => pair(seconds / DAY, "d", seconds % DAY / HOUR, "h"),
        691_200..63_072_000 => format!("{}d", seconds / DAY),
        63_072_000..252_288_000 => pair(seconds / YEAR, "y", seconds % YEAR / DAY, "d"),
        _ => format!("{}y", seconds / YEAR),
    }
}

/// The labels at a JSON pointer as `a=b,c=d`, or `<none>`.
pub(super) fn labels(object: &Value, pointer: &str) -> String {
    or_none(pairs(object.pointer(pointer)).join(","))
}

/// The label selector at a JSON pointer in the text form that `-l` takes, or `<none>`.
pub(super) fn selector(object: &Value, pointer: &str) -> String {
    let Some(selector) = object.pointer(pointer) else { return NONE.to_owned() };
    let mut parts = pairs(selector.get("matchLabels"));
    parts.extend(items(selector, "/matchExpressions").iter().filter_map(requirement));
    or_none(parts.join(","))
}

fn pairs(mapping: Option<&Value>) -> Vec<String> {
    let Some(mapping) = mapping.and_then(Value::as_object) else { return Vec::new() };
    let mut parts: Vec<String> = mapping
        .iter()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    parts.sort_unstable();
    parts
}

fn requirement(expression: &Value) -> Option<String> {
    let key = text(expression, "/key");
    let mut values: Vec<&str> =
        items(expression, "/values").iter().filter_map(Value::as_str).collect();
    values.sort_unstable();
    let values = values.join(",");
    Some(match text(expression, "/operator") {
        "In" => format!("{key} in ({values})"),
        "NotIn" => format!("{key} notin ({values})"),
        "Exists" => key.to_owned(),
        "DoesNotExist" => format!("!{key}"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn durations_read_as_kubectl_writes_them() {
        let then = time("2020-01-01T00:00:00Z").unwrap();
        for (seconds, want) in [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (600, "10m"),
            (3 * HOUR, "3h"),
            (3 * HOUR + 61, "3h1m"),
            (9 * HOUR, "9h"),
            (2 * DAY, "2d"),
            (2 * DAY + 5 * HOUR, "2d5h"),
            (8 * DAY + 5 * HOUR, "8d"),
            (2 * YEAR + 3 * DAY, "2y3d"),
            (9 * YEAR, "9y"),
        ] {
            assert_eq!(elapsed(then, then + time::Duration::seconds(seconds)), want, "{seconds}");
        }
    }

    #[test]
    fn selectors_read_as_on_the_command_line() {
        let object = json!({"s": {
            "matchLabels": {"b": "2", "a": "1"},
            "matchExpressions": [
                {"key": "x", "operator": "In", "values": ["2", "1"]},
                {"key": "y", "operator": "DoesNotExist"}
            ]
        }});
        assert_eq!(selector(&object, "/s"), "a=1,b=2,x in (1,2),!y");
        assert_eq!(selector(&object, "/none"), "<none>");
    }
}
