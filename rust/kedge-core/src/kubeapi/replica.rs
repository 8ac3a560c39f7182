// SPDX-License-Identifier: Apache-2.0
//! A node's answers: from its store what is of its view, through the link everything else.
//!
//! Reads of the view's kinds are decided by this node's policy and never wait for the cloud. What
//! passes is decided by the cloud, for the caller's own token. A version of this node's in what
//! is written becomes the cluster's version of the same object, so that a change of what the
//! client has not seen is a conflict, as it should be.

use std::collections::HashSet;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{Method, Request};
use http_body_util::Full;
use hyper::body::Incoming;
use serde_json::Value;

use super::config;
use super::handler::{Answered, Call, Handler, forbidden, header};
use super::pass::{self, Sent};
use super::path::Target;
use super::status::{Failure, qualified};
use crate::hub::client::Outlet;
use crate::store::Key;

/// What a node reads itself, and its way to the cloud.
pub(super) struct Replicated {
    kinds: HashSet<(String, String)>,
    outlet: Option<Outlet>,
}

impl Replicated {
    /// As `config` says.
    pub(super) fn new(config: config::Replica, outlet: Option<Outlet>) -> Self {
        Self { kinds: config.kinds.into_iter().collect(), outlet }
    }

    fn holds(&self, target: &Target) -> bool {
        // The set is of owned pairs; one lookup's copies cost less than a second table.
        self.kinds.contains(&(target.group.clone(), target.resource.clone()))
    }
}

impl Handler {
    /// Answers a request on a resource.
    pub(super) async fn replicated(
        &self,
        replica: &Replicated,
        call: Call,
        request: Request<Incoming>,
    ) -> Result<Answered, Failure> {
        let is_read = matches!(call.verb, "get" | "list" | "watch");
        let is_object = matches!(call.target.subresource.as_str(), "" | "status");
        if !(is_read && is_object && replica.holds(&call.target)) {
            return self.pass(replica, request, Some(&call.target)).await;
        }
        if !self.may_call(&call.who, call.verb, &call.target, &call.query) {
            return Err(forbidden(&call.who, call.verb, &call.target));
        }
        let resource = self.resource(&call)?;
        match call.verb {
            "watch" => self.watch(resource, &call).map(Answered::Watch),
            "list" => {
                let _permit = self.request_permit()?;
                self.list(resource, call).await.map(Answered::Whole)
            }
            _ => match self.get(resource, &call) {
                // It may be there, and no business of this node.
                Err(failure) if failure.code == 404 => {
                    self.pass(replica, request, Some(&call.target)).await
                }
                found => found.map(Answered::Whole),
            },
        }
    }

    /// Has the cloud answer a request, for its own token.
    pub(super) async fn pass(
        &self,
        replica: &Replicated,
        request: Request<Incoming>,
        target: Option<&Target>,
    ) -> Result<Answered, Failure> {
        let away = |why: &str| Failure::new(503, "ServiceUnavailable", unavailable(target, why));
        let Some(outlet) = &replica.outlet else {
            return Err(away("this node has no link to its cloud"));
        };
        let permit = self.stream_permit()?;
        let connection =
            outlet.open(pass::SERVICE).map_err(|error| away(error.message.as_str()))?;
        let mut request = request;
        let bearer = header(request.headers(), &AUTHORIZATION);
        let own = bearer
            .split_once(' ')
            .and_then(|(_, token)| self.authenticator.stand_in(token.trim(), &self.store));
        if let Some(Ok(value)) = own.map(|token| HeaderValue::try_from(format!("Bearer {token}"))) {
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        let sent = if pass::is_upgrade(&request) {
            Sent::Upgrade(request)
        } else {
            let (mut head, body) = request.into_parts();
            let (mut body, _budget) = self.bodies.read(&head.headers, body).await?;
            if let Some(target) = target
                && replica.holds(target)
                && !body.is_empty()
            {
                body = self.with_cluster_versions(target, &mut head, body)?;
            }
            Sent::Whole(Request::from_parts(head, Full::new(body)))
        };
        let answer = pass::pass(connection, sent, permit).await.map_err(|why| away(&why))?;
        Ok(Answered::Watch(answer))
    }

    /// The body of a write with the cluster's versions where it had this node's.
    fn with_cluster_versions(
        &self,
        target: &Target,
        head: &mut Parts,
        body: Bytes,
    ) -> Result<Bytes, Failure> {
        let kind = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let is_json = kind.is_none_or(|kind| kind.contains("json"));
        if target.name.is_empty() || !is_json || head.method == Method::POST {
            return Ok(body);
        }
        let Ok(mut value) = serde_json::from_slice::<Value>(&body) else { return Ok(body) };
        let mut changed = false;
        for part in ["metadata", "preconditions"] {
            let Some(version) =
                value.get_mut(part).and_then(|part| part.get_mut("resourceVersion"))
            else {
                continue;
            };
            let number = version.as_str().and_then(|text| text.parse().ok()).unwrap_or(0);
            if number == 0 || self.face.revision(number).is_none() {
                continue;
            }
            *version = self.cluster_version(target, number)?.into();
            changed = true;
        }
        Ok(if changed { value.to_string().into() } else { body })
    }

    /// The cluster's version of the object that has this `version` here.
    fn cluster_version(&self, target: &Target, version: u64) -> Result<String, Failure> {
        let key = Key::new(&target.group, &target.resource, &target.namespace, &target.name);
        let conflict = |why: &str| {
            let qualified = qualified(&target.resource, &target.group);
            let message =
                format!("Operation cannot be fulfilled on {qualified} {:?}: {why}", target.name);
            Failure::new(409, "Conflict", message)
        };
        let newest = self.face.get(&self.store, &key)?;
        if newest.is_none_or(|object| self.face.version(object.revision) != version) {
            return Err(conflict(
                "the object has been modified; please apply your changes to the latest version and try again",
            ));
        }
        let stored = self.store.get(&key)?.map(|object| object.value).unwrap_or_default();
        let stored: Value = serde_json::from_slice(&stored).unwrap_or_default();
        let upstream = stored.pointer("/metadata/resourceVersion").and_then(Value::as_str);
        upstream.map(str::to_owned).ok_or_else(|| {
            conflict("this node does not know its version in the cluster; leave resourceVersion out, or patch it")
        })
    }
}

/// Why the cloud does not answer, and what that means for what was asked.
fn unavailable(target: Option<&Target>, why: &str) -> String {
    match target {
        Some(target) => {
            let qualified = qualified(&target.resource, &target.group);
            let name =
                if target.name.is_empty() { String::new() } else { format!(" {:?}", target.name) };
            format!("{qualified}{name}: only the cloud can answer this: {why}")
        }
        None => format!("only the cloud can answer this: {why}"),
    }
}
