// SPDX-License-Identifier: Apache-2.0
//! Kubernetes `Status` answers, and what each error of ours is in HTTP.

use serde_json::{Value, json};

use crate::{Error, Kind};

/// A refusal: everything that a `Status` of failure says.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) code: u16,
    pub(super) reason: &'static str,
    pub(super) message: String,
    pub(super) details: Option<Box<Value>>,
    /// Seconds for a `Retry-After` header.
    pub(super) retry_after: Option<u64>,
    /// By which a list that has expired may go on.
    pub(super) continue_token: String,
}

impl Failure {
    /// A failure of `code` for `reason`.
    pub(super) fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        let (message, continue_token) = (message.into(), String::new());
        Self { code, reason, message, details: None, retry_after: None, continue_token }
    }

    /// The object or path is not there.
    pub(super) fn not_found(resource: &str, group: &str, name: &str) -> Self {
        let qualified = qualified(resource, group);
        let mut details = json!({"name": name, "kind": resource});
        if !group.is_empty() {
            details["group"] = group.into();
        }
        let message = format!("{qualified} {name:?} not found");
        Self { details: Some(Box::new(details)), ..Self::new(404, "NotFound", message) }
    }

    /// No such path or resource type.
    pub(super) fn no_such_path() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource")
    }

    /// Too busy: come back in `seconds`.
    pub(super) fn busy(message: &str, seconds: u64) -> Self {
        Self::new(429, "TooManyRequests", message).later(seconds)
    }

    /// Not there yet: come back in `seconds`.
    pub(super) fn not_yet(message: &str, seconds: u64) -> Self {
        Self::new(503, "ServiceUnavailable", message).later(seconds)
    }

    fn later(self, seconds: u64) -> Self {
        let details = Some(Box::new(json!({"retryAfterSeconds": seconds})));
        Self { details, retry_after: Some(seconds), ..self }
    }

    /// The body over its limit.
    pub(super) fn too_large(limit: usize) -> Self {
        let message = format!("limit of a request body is {limit} bytes");
        Self::new(413, "RequestEntityTooLarge", message)
    }

    /// The revision asked for is no longer kept.
    pub(super) fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// The JSON of the `Status`.
    pub(super) fn body(&self) -> Vec<u8> {
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
        });
        if let Some(details) = &self.details {
            status["details"] = Value::clone(details);
        }
        if !self.continue_token.is_empty() {
            status["metadata"]["continue"] = self.continue_token.as_str().into();
        }
        status["code"] = self.code.into();
        status.to_string().into_bytes()
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let (code, reason) = match error.kind {
            Kind::Invalid => (400, "BadRequest"),
            Kind::Unauthorized | Kind::Certificate => (401, "Unauthorized"),
            Kind::Forbidden => (403, "Forbidden"),
            Kind::NotFound => (404, "NotFound"),
            Kind::Rejected => (406, "NotAcceptable"),
            Kind::Conflict => (409, "Conflict"),
            Kind::AlreadyExists => (409, "AlreadyExists"),
            Kind::Gone => (410, "Expired"),
            Kind::TooLarge => (413, "RequestEntityTooLarge"),
            Kind::Closed | Kind::Disconnected => (503, "ServiceUnavailable"),
            Kind::Timeout => (504, "Timeout"),
            Kind::Full => (507, "InternalError"),
            Kind::Internal | Kind::Corrupt | Kind::Runtime => (500, "InternalError"),
        };
        Self::new(code, reason, error.message)
    }
}

/// `deployments.apps`, or the plain plural for the core group.
pub(super) fn qualified(resource: &str, group: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_object_is_said_as_kubectl_expects() {
        let failure = Failure::not_found("deployments", "apps", "web");
        let status: Value = serde_json::from_slice(&failure.body()).unwrap();
        assert_eq!(status["message"], "deployments.apps \"web\" not found");
        assert_eq!(status["code"], 404);
        assert_eq!(
            status["details"],
            json!({"name": "web", "group": "apps", "kind": "deployments"})
        );
    }

    #[test]
    fn an_expired_revision_is_a_410_with_its_reason() {
        let failure = Failure::from(Error::new(Kind::Gone, "too old resource version: 3 (9)"));
        assert_eq!((failure.code, failure.reason), (410, "Expired"));
    }
}
