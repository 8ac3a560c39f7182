// SPDX-License-Identifier: Apache-2.0
//! An event as a line of JSON: `audit.k8s.io/v1` `Event`.

use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use super::policy::{Level, Stage};
use crate::kubeapi::path::Target;
use crate::kubeapi::policy::Identity;

/// A longer line goes without the objects, and says so.
const MAX_LINE: usize = 10 * 1024 * 1024;
/// Bytes of a header that are written down.
const MAX_TEXT: usize = 1024;

/// What stays the same from stage to stage.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) level: Level,
    pub(super) id: String,
    pub(super) uri: String,
    pub(super) verb: String,
    pub(super) who: Option<Identity>,
    /// As whom the sender acts, if not as himself.
    pub(super) meant: Option<Identity>,
    pub(super) addresses: Vec<String>,
    pub(super) agent: String,
    pub(super) target: Option<Target>,
    pub(super) received: OffsetDateTime,
    pub(super) omit_managed_fields: bool,
}

/// What is known at the end.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    pub(super) code: u16,
    /// None while nothing was decided.
    pub(super) allowed: Option<bool>,
    /// The answer's `Status`, if it is one.
    pub(super) status: Option<Value>,
    pub(super) request: Option<Value>,
    pub(super) response: Option<Value>,
    /// Whether the answer is too long to be written down.
    pub(super) is_cut: bool,
}

impl Event {
    /// The line of a stage; before the end there is no outcome.
    pub(super) fn line(
        &self,
        stage: Stage,
        now: OffsetDateTime,
        outcome: Option<&Outcome>,
    ) -> Vec<u8> {
        let mut event = self.head(stage);
        if let Some(outcome) = outcome {
            event.insert("responseStatus".into(), status(outcome));
        }
        let mut rest = Map::new();
        rest.insert("requestReceivedTimestamp".into(), moment(self.received).into());
        rest.insert("stageTimestamp".into(), moment(now).into());
        let mut notes = Map::new();
        if let Some(allowed) = outcome.and_then(|outcome| outcome.allowed) {
            let decision = if allowed { "allow" } else { "forbid" };
            notes.insert("authorization.k8s.io/decision".into(), decision.into());
            notes.insert("authorization.k8s.io/reason".into(), "".into());
        }
        let truncated = || ("audit.k8s.io/truncated".to_owned(), Value::from("true"));
        notes.extend(outcome.is_some_and(|outcome| outcome.is_cut).then(truncated));
        let objects = outcome.map_or_else(Map::new, |outcome| self.objects(outcome));
        let whole = finished(event.clone(), objects, rest.clone(), notes.clone());
        if whole.len() <= MAX_LINE {
            return whole;
        }
        notes.extend([truncated()]);
        finished(event, Map::new(), rest, notes)
    }

    fn head(&self, stage: Stage) -> Map<String, Value> {
        let mut event = Map::new();
        event.insert("kind".into(), "Event".into());
        event.insert("apiVersion".into(), "audit.k8s.io/v1".into());
        event.insert("level".into(), self.level.word().into());
        event.insert("auditID".into(), self.id.as_str().into());
        event.insert("stage".into(), stage.word().into());
        event.insert("requestURI".into(), self.uri.as_str().into());
        event.insert("verb".into(), self.verb.as_str().into());
        event.insert("user".into(), self.who.as_ref().map_or_else(|| json!({}), user));
        event.extend(self.meant.as_ref().map(|meant| ("impersonatedUser".into(), user(meant))));
        event.insert("sourceIPs".into(), self.addresses.clone().into());
        if !self.agent.is_empty() {
            event.insert("userAgent".into(), limited(&self.agent).into());
        }
        if let Some(target) = &self.target {
            event.insert("objectRef".into(), reference(target));
        }
        event
    }

    fn objects(&self, outcome: &Outcome) -> Map<String, Value> {
        let mut objects = Map::new();
        let levels = [
            (Level::Request, "requestObject", &outcome.request),
            (Level::RequestResponse, "responseObject", &outcome.response),
        ];
        for (level, name, object) in levels {
            if let (true, Some(object)) = (self.level >= level, object) {
                let mut object = object.clone();
                if self.omit_managed_fields {
                    drop_managed_fields(&mut object);
                }
                objects.insert(name.into(), object);
            }
        }
        objects
    }
}

fn user(who: &Identity) -> Value {
    json!({"username": who.user, "groups": who.groups})
}

fn finished(
    mut event: Map<String, Value>,
    objects: Map<String, Value>,
    rest: Map<String, Value>,
    notes: Map<String, Value>,
) -> Vec<u8> {
    event.extend(objects);
    event.extend(rest);
    if !notes.is_empty() {
        event.insert("annotations".into(), notes.into());
    }
    let mut line = Value::Object(event).to_string().into_bytes();
    line.push(b'\n');
    line
}

fn status(outcome: &Outcome) -> Value {
    let mut status = json!({"metadata": {}});
    for field in ["status", "message", "reason", "details"] {
        if let Some(value) = outcome.status.as_ref().and_then(|status| status.get(field)) {
            status[field] = value.clone();
        }
    }
    status["code"] = outcome.code.into();
    status
}

fn reference(target: &Target) -> Value {
    let mut reference = Map::new();
    for (name, value) in [
        ("resource", &target.resource),
        ("namespace", &target.namespace),
        ("name", &target.name),
        ("apiGroup", &target.group),
        ("apiVersion", &target.version),
        ("subresource", &target.subresource),
    ] {
        if !value.is_empty() {
            reference.insert(name.into(), value.as_str().into());
        }
    }
    reference.into()
}

fn drop_managed_fields(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.shift_remove("managedFields");
    }
    for item in object.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten() {
        drop_managed_fields(item);
    }
}

fn limited(text: &str) -> String {
    if text.len() <= MAX_TEXT {
        return text.to_owned();
    }
    let mut end = MAX_TEXT;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}...TRUNCATED", &text[..end])
}

/// A `MicroTime`.
fn moment(at: OffsetDateTime) -> String {
    let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
    let (hour, minute, second) = (at.hour(), at.minute(), at.second());
    let micro = at.microsecond();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micro:06}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(level: Level) -> Event {
        Event {
            level,
            id: "1".into(),
            uri: "/api/v1/namespaces/a/pods/b".into(),
            verb: "update".into(),
            who: Some(Identity { user: "jane".into(), groups: vec!["dev".into()] }),
            meant: Some(Identity { user: "root".into(), groups: Vec::new() }),
            addresses: vec!["127.0.0.1".into()],
            agent: "x".repeat(2000),
            target: Some(Target {
                version: "v1".into(),
                resource: "pods".into(),
                namespace: "a".into(),
                name: "b".into(),
                ..Target::default()
            }),
            received: OffsetDateTime::UNIX_EPOCH,
            omit_managed_fields: true,
        }
    }

    fn parsed(level: Level, outcome: Option<&Outcome>) -> Value {
        let stage = Stage::ResponseComplete;
        let line = event(level).line(stage, OffsetDateTime::UNIX_EPOCH, outcome);
        assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(line.len() - 1));
        serde_json::from_slice(&line).unwrap()
    }

    fn outcome(object: Value) -> Outcome {
        Outcome {
            code: 200,
            allowed: Some(true),
            request: Some(object.clone()),
            response: Some(object),
            ..Outcome::default()
        }
    }

    #[test]
    fn a_level_says_which_objects_are_in_the_line() {
        let object = json!({"metadata": {"name": "b", "managedFields": []}, "spec": {}});
        let bare = json!({"metadata": {"name": "b"}, "spec": {}});
        for (level, request, response) in [
            (Level::Metadata, false, false),
            (Level::Request, true, false),
            (Level::RequestResponse, true, true),
        ] {
            let found = parsed(level, Some(&outcome(object.clone())));
            assert_eq!(found.get("requestObject"), request.then_some(&bare));
            assert_eq!(found.get("responseObject"), response.then_some(&bare));
            assert_eq!(found["responseStatus"], json!({"metadata": {}, "code": 200}));
        }
    }

    #[test]
    fn a_line_says_who_did_what_to_what_and_when() {
        let found = parsed(Level::Metadata, None);
        assert_eq!(found["user"], json!({"username": "jane", "groups": ["dev"]}));
        assert_eq!(found["impersonatedUser"]["username"], "root");
        let object = json!({"resource": "pods", "namespace": "a", "name": "b", "apiVersion": "v1"});
        assert_eq!(found["objectRef"], object);
        assert_eq!(found["stageTimestamp"], "1970-01-01T00:00:00.000000Z");
        assert!(found["userAgent"].as_str().unwrap().ends_with("x...TRUNCATED"));
        assert!(found.get("responseStatus").is_none() && found.get("annotations").is_none());
    }

    #[test]
    fn a_refusal_is_told_with_its_words() {
        let status = json!({"kind": "Status", "status": "Failure", "message": "no", "code": 403});
        let refused =
            Outcome { code: 403, allowed: Some(false), status: Some(status), ..Outcome::default() };
        let found = parsed(Level::Metadata, Some(&refused));
        assert_eq!(
            found["responseStatus"],
            json!({"metadata": {}, "status": "Failure", "message": "no", "code": 403})
        );
        assert_eq!(found["annotations"]["authorization.k8s.io/decision"], "forbid");
    }

    #[test]
    fn a_line_that_is_too_long_goes_without_its_objects() {
        let large = json!({"data": "x".repeat(MAX_LINE)});
        let found = parsed(Level::RequestResponse, Some(&outcome(large)));
        assert_eq!(found["annotations"]["audit.k8s.io/truncated"], "true");
        assert!(found.get("requestObject").is_none() && found.get("responseObject").is_none());
    }
}
