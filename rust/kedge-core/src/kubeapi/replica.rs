// SPDX-License-Identifier: Apache-2.0
//! A node's answers: from its store what is of its view, through the link everything else.
//!
//! Reads of the view's kinds are decided by this node's policy and never wait for the cloud. What
//! passes is decided by the cloud, for the caller's own token; `written` has what becomes of versions.

use std::collections::HashSet;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderValue, WARNING};
use http::request::Parts;
use http::{HeaderMap, Request};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;

use super::config;
use super::handler::{Answered, Call, Handler, header};
use super::pass::{self, Sent};
use super::path::Target;
use super::proxy;
use super::reviews;
use super::status::{Failure, qualified};
use super::usage;
use crate::hub::client::Outlet;
use crate::hub::tunnels::TunnelIo;
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

    pub(super) fn holds(&self, target: &Target) -> bool {
        // The set is of owned pairs; one lookup's copies cost less than a second table.
        self.kinds.contains(&(target.group.clone(), target.resource.clone()))
    }
}

/// Shown by kubectl.
const ALONE: HeaderValue = HeaderValue::from_static(
    "299 kedge \"this is what the node knows by itself, without the cloud\"",
);

/// Whether a node has an answer of its own while the cloud does not answer.
fn is_told_alone(target: &Target) -> bool {
    let is_list = target.name.is_empty() && target.subresource.is_empty();
    let is_event = target.group.is_empty() && target.resource == "events";
    (is_event && is_list) || usage::is_usage(target)
}

impl Handler {
    /// Answers a request on a resource.
    pub(super) async fn replicated(
        &self,
        replica: &Replicated,
        call: Call,
        request: Request<Incoming>,
    ) -> Result<Answered, Failure> {
        if reviews::is_review(request.method(), &call.target) {
            return self.review(replica, call, request).await;
        }
        if self.is_for_this_node(&call.target)? {
            return self.streamed(call, request).await;
        }
        let is_read = matches!(call.verb, "get" | "list" | "watch");
        let is_object = matches!(call.target.subresource.as_str(), "" | "status");
        if !(is_read && is_object && replica.holds(&call.target)) {
            let told = is_read && call.verb != "watch" && is_told_alone(&call.target);
            if told && !request.headers().contains_key(AUTHORIZATION) {
                return self.tell_alone(call).await;
            }
            return match self.pass(replica, request, Some(&call.target)).await {
                Err(failure) if told && failure.code == 503 => self.tell_alone(call).await,
                answered => answered,
            };
        }
        self.allow(&call, call.verb)?;
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

    /// What is otherwise the cloud's, as far as this node knows it: Events that wait for the cloud, and
    /// what this node's pods use.
    async fn tell_alone(&self, call: Call) -> Result<Answered, Failure> {
        self.allow(&call, call.verb)?;
        let _permit = self.request_permit()?;
        let mut answer = if usage::is_usage(&call.target) {
            let Call { target, query, .. } = &call;
            usage::serve(&self.samples, &self.nodes, &self.store, target, query).await?
        } else {
            let resource = self.resource(&call)?;
            self.list(resource, call).await?
        };
        answer.headers_mut().insert(WARNING, ALONE);
        Ok(Answered::Whole(answer))
    }

    /// Whether a request is for the kubelet of this node: about one of its pods, or itself.
    fn is_for_this_node(&self, target: &Target) -> Result<bool, Failure> {
        if !self.nodes.is_node() || !proxy::is_for_node(target) {
            return Ok(false);
        }
        let name = target.name.split(':').next().unwrap_or_default();
        let key = Key::new("", &target.resource, &target.namespace, name);
        Ok(self.store.get(&key)?.is_some())
    }

    /// Answers from this node's kubelet: logs, exec, attach, port-forward, the node proxy.
    async fn streamed(&self, call: Call, request: Request<Incoming>) -> Result<Answered, Failure> {
        // A WebSocket begins with a GET, but whoever runs something in a pod needs "create".
        let verb = match call.target.subresource.as_str() {
            "exec" | "attach" | "portforward" => "create",
            "proxy" if pass::is_upgrade(&request) => "create",
            _ => call.verb,
        };
        self.allow(&call, verb)?;
        self.ask_node(&call, request).await
    }

    /// Has the cloud answer a request, for its own token.
    pub(super) async fn pass(
        &self,
        replica: &Replicated,
        request: Request<Incoming>,
        target: Option<&Target>,
    ) -> Result<Answered, Failure> {
        if !pass::is_upgrade(&request) {
            let (head, body) = request.into_parts();
            let (body, _budget) = self.bodies.read(&head.headers, body).await?;
            return self.pass_on(replica, head, body, target).await;
        }
        let mut request = request;
        self.stand_in(request.headers_mut())?;
        let (connection, permit) = self.to_cloud(replica, target)?;
        let answer = pass::pass(connection, Sent::Upgrade(request), permit).await;
        answer.map(Answered::Watch).map_err(|why| away(target, &why))
    }

    /// The same with a body that was read.
    pub(super) async fn pass_on(
        &self,
        replica: &Replicated,
        mut head: Parts,
        mut body: Bytes,
        target: Option<&Target>,
    ) -> Result<Answered, Failure> {
        self.stand_in(&mut head.headers)?;
        let (connection, permit) = self.to_cloud(replica, target)?;
        let mut write = None;
        if let Some(target) = target.filter(|target| replica.holds(target)) {
            write = self.write(target, &mut head)?;
            body = self.with_cluster_versions(replica, target, &head, body).await?;
        }
        let sent = Sent::Whole(Request::from_parts(head, Full::new(body)));
        let answer = pass::pass(connection, sent, permit).await;
        let answer = answer.map_err(|why| away(target, &why))?;
        Ok(match write {
            Some(write) => Answered::Whole(self.with_own_version(write, answer).await),
            None => Answered::Watch(answer),
        })
    }

    /// Puts a token that the cloud takes where it would not take the caller's.
    fn stand_in(&self, headers: &mut HeaderMap) -> Result<(), Failure> {
        let bearer = header(headers, &AUTHORIZATION);
        let Some((_, token)) = bearer.split_once(' ') else {
            let message = "only the cloud can answer this, and a certificate of this node means nothing to it: use a kubeconfig of the cluster";
            return Err(Failure::new(403, "Forbidden", message));
        };
        let own = self.authenticator.stand_in(token.trim(), &self.store);
        if let Some(Ok(value)) = own.map(|token| HeaderValue::try_from(format!("Bearer {token}"))) {
            headers.insert(AUTHORIZATION, value);
        }
        Ok(())
    }

    /// A connection to the cloud's API server, and the permit that goes with it.
    pub(super) fn to_cloud(
        &self,
        replica: &Replicated,
        target: Option<&Target>,
    ) -> Result<(TunnelIo, OwnedSemaphorePermit), Failure> {
        let Some(outlet) = &replica.outlet else {
            return Err(away(target, "this node has no link to its cloud"));
        };
        let permit = self.stream_permit()?;
        let connection =
            outlet.open(pass::SERVICE).map_err(|error| away(target, &error.message))?;
        Ok((connection, permit))
    }
}

/// That the cloud does not answer.
pub(super) fn away(target: Option<&Target>, why: &str) -> Failure {
    Failure::new(503, "ServiceUnavailable", unavailable(target, why))
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
