// SPDX-License-Identifier: Apache-2.0
//! Who sends a request, and whether they may.

use http::HeaderMap;
use http::header::AUTHORIZATION;
use serde_json::{Value, json};

use super::auth::AUTHENTICATED;
use super::handler::{Call, Handler};
use super::path::{Target, Verb};
use super::policy::Identity;
use super::rbac::Access;
use super::status::{Failure, qualified};
use super::{About, impersonate};
use crate::Kind;
use crate::store::Selector;

impl Handler {
    /// For whom a request is: who sends it, or whom the sender may speak for.
    pub(super) fn sender(
        &self,
        headers: &HeaderMap,
        peer: Option<&Identity>,
    ) -> Result<Identity, Failure> {
        let who = self.authenticate(headers, peer)?;
        let Some((meant, needed)) = impersonate::asked(headers)? else { return Ok(who) };
        if self.replica.is_some() {
            // What a node passes on goes with the sender's own rights.
            return Err(Failure::new(403, "Forbidden", "impersonation is not supported"));
        }
        for target in &needed {
            if !self.may(&who, "impersonate", &about(target, &target.name)) {
                return Err(forbidden(&who, "impersonate", target));
            }
        }
        Ok(meant)
    }

    /// Who sends a request: whom the connection's certificate names, else whom the token is for.
    pub(super) fn authenticate(
        &self,
        headers: &HeaderMap,
        peer: Option<&Identity>,
    ) -> Result<Identity, Failure> {
        let anonymous = || Failure::new(401, "Unauthorized", "Unauthorized");
        if let Some(peer) = peer {
            let mut who = peer.clone();
            who.groups.push(AUTHENTICATED.to_owned());
            return Ok(who);
        }
        let value = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let (scheme, token) =
            value.and_then(|value| value.split_once(' ')).ok_or_else(anonymous)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(anonymous());
        }
        self.authenticator.bearer(token.trim(), &self.store).map_err(|error| {
            log::debug!("bearer token refused: {error}");
            if error.kind == Kind::Unauthorized { anonymous() } else { error.into() }
        })
    }

    /// Refuses a call whose sender may not do `verb` on what it is about.
    pub(super) fn allow(&self, call: &Call, verb: Verb) -> Result<(), Failure> {
        let Call { target, query, who, .. } = call;
        let fields = query.get("fieldSelector");
        let chosen = if fields.is_empty() { None } else { Selector::parse("", fields).ok() };
        let name = match target.name.as_str() {
            "" => chosen.as_ref().and_then(|fields| fields.exact_field("metadata.name")),
            name => Some(name),
        };
        if self.may(who, verb, &about(target, name.unwrap_or_default())) {
            Ok(())
        } else {
            Err(forbidden(who, verb, target))
        }
    }

    /// Whether `who` may do `verb` on a resource.
    pub(super) fn may(&self, who: &Identity, verb: &str, about: &About<'_>) -> bool {
        if self.policy.allows(who, verb, about) {
            return true;
        }
        let About { group, resource, subresource, namespace, name } = *about;
        let access = Access::Resource { verb, group, resource, subresource, name };
        self.rbac.as_ref().is_some_and(|rbac| rbac.allows(who, namespace, &access))
    }

    /// Whether `who` may do `verb` on a path that is no resource.
    pub(super) fn may_url(&self, who: &Identity, verb: &str, path: &str) -> bool {
        let access = Access::Url { verb, path };
        self.policy.allows_url(who, path)
            || self.rbac.as_ref().is_some_and(|rbac| rbac.allows(who, "", &access))
    }

    /// What `who` may do in `namespace`: the rules of a `SelfSubjectRulesReview`.
    pub(super) fn rules(&self, who: &Identity, namespace: &str) -> Value {
        let (mut resources, mut urls) = self.policy.rules(who, namespace);
        if let Some(rbac) = &self.rbac {
            let (more, more_urls) = rbac.rules(who, namespace);
            resources.extend(more);
            urls.extend(more_urls);
        }
        json!({"resourceRules": resources, "nonResourceRules": urls, "incomplete": false})
    }

    /// Whether `who` may do everything whatever roles say.
    pub(super) fn policy_allows_all(&self, who: &Identity) -> bool {
        self.policy.allows(who, "*", &About { group: "*", resource: "*", ..About::default() })
    }

    /// What of `rules` somebody lacks.
    pub(super) fn lacks(
        &self,
        who: &Identity,
        namespace: &str,
        rules: &str,
    ) -> crate::Result<Vec<String>> {
        match &self.rbac {
            Some(rbac) if !self.policy_allows_all(who) => rbac.missing(who, namespace, rules),
            _ => Ok(Vec::new()),
        }
    }
}

fn about<'a>(target: &'a Target, name: &'a str) -> About<'a> {
    About {
        group: &target.group,
        resource: &target.resource,
        subresource: &target.subresource,
        namespace: &target.namespace,
        name,
    }
}

/// That `who` may not.
pub(super) fn forbidden(who: &Identity, verb: Verb, target: &Target) -> Failure {
    let mut resource = target.resource.clone();
    if !target.subresource.is_empty() {
        resource = format!("{resource}/{}", target.subresource);
    }
    let scope = match target.namespace.as_str() {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace {namespace:?}"),
    };
    let name = if target.name.is_empty() { String::new() } else { format!(" {:?}", target.name) };
    let qualified = qualified(&target.resource, &target.group);
    let message = format!(
        "{qualified}{name} is forbidden: User {:?} cannot {verb} resource {resource:?} in API group {:?} {scope}",
        who.user, target.group
    );
    let details = json!({"name": target.name, "group": target.group, "kind": target.resource});
    Failure { details: Some(Box::new(details)), ..Failure::new(403, "Forbidden", message) }
}
