// SPDX-License-Identifier: Apache-2.0
//! Reviews (who am I, may I, is this token good) on a node while the cloud is away.
//!
//! With a link the cloud answers, which knows everybody. Without one the node tells what it knows, and
//! says so: a "yes" follows from a role that is here, a "no" is one only for the accounts of pods
//! of this node, whose roles and bindings it has all of, as of the last contact.

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::request::Parts;
use http::{Method, Request};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::About;
use super::auth::{ACCOUNT_USER, ACCOUNTS, AUTHENTICATED};
use super::body::{JSON, answer};
use super::handler::{Answered, Call, Handler, header};
use super::path::Target;
use super::policy::Identity;
use super::protobuf::{self, Shape, Table};
use super::replica::Replicated;
use super::status::Failure;
use crate::store::Key;

const WHO: &str = "authentication.k8s.io";
const WHAT: &str = "authorization.k8s.io";
/// What a review asks, in protobuf: Kubernetes' `generated.proto` of both groups.
const RESOURCE: &Table = &[
    (1, "namespace", Shape::Text),
    (2, "verb", Shape::Text),
    (3, "group", Shape::Text),
    (5, "resource", Shape::Text),
    (6, "subresource", Shape::Text),
    (7, "name", Shape::Text),
];
const URL: &Table = &[(1, "path", Shape::Text), (2, "verb", Shape::Text)];
const ACCESS: &Table = &[
    (1, "resourceAttributes", Shape::Object(RESOURCE)),
    (2, "nonResourceAttributes", Shape::Object(URL)),
    (3, "user", Shape::Text),
    (4, "groups", Shape::Texts),
];
const TOKEN: &Table = &[(1, "token", Shape::Text), (2, "audiences", Shape::Texts)];
const RULES: &Table = &[(1, "namespace", Shape::Text)];

const AS_OF: &str = "as of when this node was last linked to its cloud";
const OTHERS: &str =
    "this node has only the roles of its own pods' accounts, and the cloud is away: it cannot tell";

/// Whether a request is one that is posted to ask something.
pub(super) fn is_review(method: &Method, target: &Target) -> bool {
    *method == Method::POST && target.name.is_empty() && kind(target).is_some()
}

fn kind(target: &Target) -> Option<&'static str> {
    Some(match (target.group.as_str(), target.resource.as_str()) {
        (WHO, "selfsubjectreviews") => "SelfSubjectReview",
        (WHO, "tokenreviews") => "TokenReview",
        (WHAT, "selfsubjectaccessreviews") => "SelfSubjectAccessReview",
        (WHAT, "selfsubjectrulesreviews") => "SelfSubjectRulesReview",
        (WHAT, "subjectaccessreviews") => "SubjectAccessReview",
        _ => return None,
    })
}

impl Handler {
    /// Answers a review: the cloud if it can, else this node.
    pub(super) async fn review(
        &self,
        replica: &Replicated,
        call: Call,
        request: Request<Incoming>,
    ) -> Result<Answered, Failure> {
        let (head, body) = request.into_parts();
        let (body, _budget) = self.bodies.read(&head.headers, body).await?;
        let kind = kind(&call.target).unwrap_or_default();
        let is_known_there = head.headers.contains_key(AUTHORIZATION);
        let is_ours = kind == "TokenReview" && self.is_about_own_token(&body);
        if is_known_there && !is_ours {
            let passed = self.pass_on(replica, head.clone(), body.clone(), Some(&call.target));
            match passed.await {
                Err(failure) if failure.code == 503 => {}
                answered => return answered,
            }
        }
        let _permit = self.request_permit()?;
        self.review_here(kind, &call, &head, &body).map(Answered::Whole)
    }

    fn is_about_own_token(&self, body: &Bytes) -> bool {
        let review = read("TokenReview", body).unwrap_or_default();
        let token = review.pointer("/spec/token").and_then(Value::as_str);
        token.is_some_and(|token| self.authenticator.signed_here(token))
    }

    fn review_here(
        &self,
        kind: &'static str,
        call: &Call,
        head: &Parts,
        body: &Bytes,
    ) -> super::handler::Answer {
        let mut review = read(kind, body).ok_or_else(|| {
            let media_type = header(&head.headers, &CONTENT_TYPE);
            let message = format!("wanted a {kind} in JSON or protobuf, got: {media_type:?}");
            Failure::new(415, "UnsupportedMediaType", message)
        })?;
        let Some(fields) = review.as_object_mut() else {
            return Err(bad("the body: wanted an object"));
        };
        let spec = fields.get("spec").cloned().unwrap_or_default();
        let is_for_others = matches!(kind, "TokenReview" | "SubjectAccessReview");
        if is_for_others {
            self.allow(call, call.verb)?;
        }
        let status = match kind {
            "SelfSubjectReview" => {
                json!({"userInfo": {"username": call.who.user, "groups": call.who.groups}})
            }
            "SelfSubjectAccessReview" => self.access(&spec, &call.who)?,
            "SelfSubjectRulesReview" => self.rules_review(&spec, &call.who)?,
            "TokenReview" => self.token_review(&spec)?,
            _ => self.access(&spec, &subject(&spec)?)?,
        };
        let version = format!("{}/{}", call.target.group, call.target.version);
        fields.insert("kind".into(), kind.into());
        fields.insert("apiVersion".into(), version.into());
        fields.entry("metadata").or_insert_with(|| json!({}));
        fields.insert("status".into(), status);
        Ok(answer(201, JSON, review.to_string()))
    }

    fn access(&self, spec: &Value, who: &Identity) -> Result<Value, Failure> {
        let attributes = |name: &str| spec.get(name).filter(|value| value.is_object());
        let allowed = match (attributes("resourceAttributes"), attributes("nonResourceAttributes"))
        {
            (Some(asked), None) => {
                let about = About {
                    group: text(asked, "group"),
                    resource: text(asked, "resource"),
                    subresource: text(asked, "subresource"),
                    namespace: text(asked, "namespace"),
                    name: text(asked, "name"),
                };
                self.may(who, text(asked, "verb"), &about)
            }
            (None, Some(asked)) => self.may_url(who, text(asked, "verb"), text(asked, "path")),
            _ => {
                return Err(bad(
                    "spec: exactly one of nonResourceAttributes or resourceAttributes must be specified",
                ));
            }
        };
        Ok(match (allowed, self.knows_all_roles_of(who)) {
            (true, _) => {
                json!({"allowed": true, "reason": format!("by a role that this node has, {AS_OF}")})
            }
            (false, true) => json!({"allowed": false, "reason": format!("by no role, {AS_OF}")}),
            (false, false) => json!({"allowed": false, "evaluationError": OTHERS}),
        })
    }

    fn rules_review(&self, spec: &Value, who: &Identity) -> Result<Value, Failure> {
        let namespace = text(spec, "namespace");
        if namespace.is_empty() {
            return Err(bad("spec.namespace: Required value"));
        }
        let mut status = self.rules(who, namespace);
        status["incomplete"] = true.into();
        status["evaluationError"] = AS_OF.into();
        Ok(status)
    }

    fn token_review(&self, spec: &Value) -> Result<Value, Failure> {
        let token = text(spec, "token");
        if token.is_empty() {
            return Err(bad("spec.token: Required value"));
        }
        let wanted = spec.get("audiences").and_then(Value::as_array).cloned().unwrap_or_default();
        let wanted: Vec<String> =
            wanted.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        Ok(match self.authenticator.review(token, &wanted, &self.store) {
            Ok((user, meant)) => {
                json!({"authenticated": true, "user": {"username": user.user, "groups": user.groups},
                "audiences": meant})
            }
            Err(error) => json!({"user": {}, "error": format!(
                "the cloud is away, and this node does not know the token: {}", error.message)}),
        })
    }

    /// Whether every role of somebody is in this node's view: an account of one of its pods, which is in
    /// no other groups than accounts are, or the node's own operator.
    fn knows_all_roles_of(&self, who: &Identity) -> bool {
        let Some((namespace, name)) =
            who.user.strip_prefix(ACCOUNT_USER).and_then(|account| account.split_once(':'))
        else {
            return self.policy_allows_all(who);
        };
        let own = format!("{ACCOUNTS}:{namespace}");
        let is_usual =
            |group: &String| group == ACCOUNTS || group == AUTHENTICATED || *group == own;
        let key = Key::new("", "serviceaccounts", namespace, name);
        who.groups.iter().all(is_usual) && self.store.get(&key).is_ok_and(|found| found.is_some())
    }
}

/// A review in JSON or protobuf.
fn read(kind: &str, body: &Bytes) -> Option<Value> {
    if let Ok(review) = serde_json::from_slice(body) {
        return Some(review);
    }
    let table = match kind {
        "SelfSubjectAccessReview" | "SubjectAccessReview" => ACCESS,
        "SelfSubjectRulesReview" => RULES,
        "TokenReview" => TOKEN,
        _ => &[],
    };
    Some(json!({"spec": protobuf::spec(body, table)?}))
}

fn subject(spec: &Value) -> Result<Identity, Failure> {
    let groups = spec.get("groups").and_then(Value::as_array).cloned().unwrap_or_default();
    let groups: Vec<String> = groups.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let user = text(spec, "user").to_owned();
    if user.is_empty() && groups.is_empty() {
        return Err(bad("spec: at least one of user or group must be specified"));
    }
    Ok(Identity { user, groups })
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn bad(message: &str) -> Failure {
    Failure::new(400, "BadRequest", message)
}
