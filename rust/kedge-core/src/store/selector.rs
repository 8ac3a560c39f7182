// SPDX-License-Identifier: Apache-2.0
//! Label and field selectors in Kubernetes' grammar, and whether an object matches them.

use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::HashMap;

use crate::store::{Key, Meta};
use crate::{Error, Kind, Result};

/// The most requirements of one selector.
const MAX_REQUIREMENTS: usize = 256;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    Exists,
    Absent,
    In(Vec<String>),
    NotIn(Vec<String>),
    Greater(i64),
    Less(i64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

impl Requirement {
    fn holds(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|text| text.parse::<i64>().ok());
        match &self.test {
            Test::Exists => value.is_some(),
            Test::Absent => value.is_none(),
            Test::In(wanted) => value.is_some_and(|text| wanted.iter().any(|item| item == text)),
            Test::NotIn(unwanted) => {
                value.is_none_or(|text| unwanted.iter().all(|item| item != text))
            }
            Test::Greater(bound) => number().is_some_and(|value| value > *bound),
            Test::Less(bound) => number().is_some_and(|value| value < *bound),
        }
    }
}

/// A parsed label selector and field selector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<Requirement>,
}

impl Selector {
    /// Parses both; an empty text selects everything.
    pub fn parse(labels: &str, fields: &str) -> Result<Self> {
        let labels =
            split(labels).into_iter().map(|text| label(&text)).collect::<Result<Vec<_>>>()?;
        let fields =
            split(fields).into_iter().map(|text| field(&text)).collect::<Result<Vec<_>>>()?;
        if labels.len() + fields.len() > MAX_REQUIREMENTS {
            let message = format!("selector with more than {MAX_REQUIREMENTS} requirements");
            return Err(Error::new(Kind::Invalid, message));
        }
        Ok(Self { labels, fields })
    }

    /// Whether it selects everything.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// The fields that it names.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|requirement| requirement.key.as_str())
    }

    /// The one value that a field must have, if there is one.
    pub fn exact_field(&self, key: &str) -> Option<&str> {
        self.fields.iter().filter(|requirement| requirement.key == key).find_map(|requirement| {
            match &requirement.test {
                Test::In(wanted) if wanted.len() == 1 => Some(wanted[0].as_str()),
                _ => None,
            }
        })
    }

    /// Whether an object matches; one that cannot be read does not.
    pub fn matches(&self, key: &Key, value: &[u8]) -> bool {
        let fields = self.fields.iter().all(|requirement| match requirement.key.as_str() {
            "metadata.name" => requirement.holds(Some(&key.name)),
            "metadata.namespace" => requirement.holds(Some(&key.namespace)),
            label => {
                let (path, absent) = field_of(label);
                requirement.holds(Some(&at(value, path).unwrap_or_else(|| absent.to_owned())))
            }
        });
        if !fields || self.labels.is_empty() {
            return fields;
        }
        Meta::of(value).is_ok_and(|meta| {
            self.labels.iter().all(|requirement| requirement.holds(meta.label(&requirement.key)))
        })
    }
}

/// Where the field is that a selector names, and what it counts as where there is none.
fn field_of(label: &str) -> (&str, &str) {
    match label {
        "source" => ("source.component", ""),
        "spec.hostNetwork" | "spec.unschedulable" => (label, "false"),
        "status.replicas" => (label, "0"),
        "status.successful" => ("status.succeeded", "0"),
        path => (path, ""),
    }
}

/// The text of the scalar at a dotted path.
fn at(value: &[u8], path: &str) -> Option<String> {
    let mut current = std::str::from_utf8(value).ok()?;
    for part in path.split('.') {
        let members: HashMap<String, &RawValue> = serde_json::from_str(current).ok()?;
        current = members.get(part)?.get();
    }
    match serde_json::Value::deserialize(&mut serde_json::Deserializer::from_str(current)).ok()? {
        serde_json::Value::String(text) => Some(text),
        serde_json::Value::Null => None,
        other => Some(other.to_string()),
    }
}

/// Splits at commas outside parentheses.
fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut depth = 0_i32;
    for letter in text.chars() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = parts.last_mut() {
            last.push(letter);
        }
    }
    parts.into_iter().map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
}

fn invalid(what: &str, text: &str) -> Error {
    Error::new(Kind::Invalid, format!("unable to parse {what} requirement: {text:?}"))
}

fn label(text: &str) -> Result<Requirement> {
    let requirement = |key: &str, test| {
        let key = key.trim();
        if key.is_empty() || !key.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c)) {
            return Err(invalid("label selector", text));
        }
        Ok(Requirement { key: key.to_owned(), test })
    };
    if let Some(key) = text.strip_prefix('!').filter(|rest| !rest.starts_with('=')) {
        return requirement(key, Test::Absent);
    }
    if let Some(open) = text.find('(') {
        let values =
            text[open + 1..].strip_suffix(')').ok_or_else(|| invalid("label selector", text))?;
        let values = values.split(',').map(|item| item.trim().to_owned()).collect();
        let mut words = text[..open].split_whitespace();
        return match (words.next(), words.next(), words.next()) {
            (Some(key), Some("in"), None) => requirement(key, Test::In(values)),
            (Some(key), Some("notin"), None) => requirement(key, Test::NotIn(values)),
            _ => Err(invalid("label selector", text)),
        };
    }
    let checked = |value: &str| {
        let value = value.trim();
        if value.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
            Ok(value.to_owned())
        } else {
            Err(invalid("label selector", text))
        }
    };
    let bound =
        |value: &str| value.trim().parse().map_err(|_error| invalid("label selector", text));
    if let Some((key, value)) = text.split_once("!=") {
        return requirement(key, Test::NotIn(vec![checked(value)?]));
    }
    if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return requirement(key, Test::In(vec![checked(value)?]));
    }
    if let Some((key, value)) = text.split_once('>') {
        return requirement(key, Test::Greater(bound(value)?));
    }
    if let Some((key, value)) = text.split_once('<') {
        return requirement(key, Test::Less(bound(value)?));
    }
    requirement(text, Test::Exists)
}

fn field(text: &str) -> Result<Requirement> {
    let (key, value, equal) = if let Some((key, value)) = text.split_once("!=") {
        (key, value, false)
    } else if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        (key, value, true)
    } else {
        return Err(invalid("field selector", text));
    };
    let key = key.trim();
    if key.is_empty() || !key.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) {
        return Err(invalid("field selector", text));
    }
    let values = vec![value.trim().to_owned()];
    let test = if equal { Test::In(values) } else { Test::NotIn(values) };
    Ok(Requirement { key: key.to_owned(), test })
}
