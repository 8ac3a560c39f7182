// SPDX-License-Identifier: Apache-2.0
//! Which requests are written down, and how much of them: the first rule that matches says.
//!
//! Source: `audit.k8s.io/v1` `Policy`, and apiserver's `pkg/audit/policy/checker.go` for what a rule matches.

use serde::Deserialize;

use crate::kubeapi::path::Target;
use crate::kubeapi::policy::Identity;

/// How much is written down.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    None,
    Metadata,
    Request,
    RequestResponse,
}

impl Level {
    /// The word for it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Metadata => "Metadata",
            Self::Request => "Request",
            Self::RequestResponse => "RequestResponse",
        }
    }
}

/// When in a request's life.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub(super) enum Stage {
    RequestReceived,
    ResponseStarted,
    ResponseComplete,
    Panic,
}

impl Stage {
    /// The word for it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::RequestReceived => "RequestReceived",
            Self::ResponseStarted => "ResponseStarted",
            Self::ResponseComplete => "ResponseComplete",
            Self::Panic => "Panic",
        }
    }
}

/// The rules in their order.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::kubeapi) struct Policy {
    rules: Vec<Rule>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default)]
    omit_managed_fields: bool,
}

/// What is empty matches everything.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    level: Level,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    user_groups: Vec<String>,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    resources: Vec<GroupResources>,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default, rename = "nonResourceURLs")]
    urls: Vec<String>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default)]
    omit_managed_fields: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct GroupResources {
    #[serde(default)]
    group: String,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    resource_names: Vec<String>,
}

/// A request as rules see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    /// None where nobody known asks.
    pub(super) who: Option<&'a Identity>,
    pub(super) verb: &'a str,
    pub(super) path: &'a str,
    /// None for a path that is no resource.
    pub(super) target: Option<&'a Target>,
}

/// What is written down of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Recording {
    pub(super) level: Level,
    omitted: Vec<Stage>,
    pub(super) omit_managed_fields: bool,
}

impl Recording {
    /// Whether a stage is written down.
    pub(super) fn has(&self, stage: Stage) -> bool {
        !self.omitted.contains(&stage)
    }
}

impl Policy {
    /// What is written down of a request; None for nothing.
    pub(super) fn recording(&self, asked: Asked<'_>) -> Option<Recording> {
        let rule = self.rules.iter().find(|rule| rule.matches(asked))?;
        let omitted = self.omit_stages.iter().chain(&rule.omit_stages).copied().collect();
        let omit_managed_fields = rule.omit_managed_fields.unwrap_or(self.omit_managed_fields);
        let level = rule.level;
        (level > Level::None).then_some(Recording { level, omitted, omit_managed_fields })
    }
}

impl Rule {
    fn matches(&self, asked: Asked<'_>) -> bool {
        let is_user = |who: &Identity| self.users.contains(&who.user);
        let is_member =
            |who: &Identity| who.groups.iter().any(|own| self.user_groups.contains(own));
        if !(self.users.is_empty() || asked.who.is_some_and(is_user))
            || !(self.user_groups.is_empty() || asked.who.is_some_and(is_member))
            || !(self.verbs.is_empty() || self.verbs.iter().any(|own| own == asked.verb))
        {
            return false;
        }
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            return asked.target.is_some_and(|target| self.matches_resource(target));
        }
        self.urls.is_empty()
            || (asked.target.is_none() && self.urls.iter().any(|own| covers(own, asked.path)))
    }

    fn matches_resource(&self, target: &Target) -> bool {
        (self.namespaces.is_empty() || self.namespaces.contains(&target.namespace))
            && (self.resources.is_empty() || self.resources.iter().any(|own| own.matches(target)))
    }
}

impl GroupResources {
    fn matches(&self, target: &Target) -> bool {
        let is_named = self.resource_names.is_empty() || self.resource_names.contains(&target.name);
        self.group == target.group
            && (self.resources.is_empty()
                || (is_named && self.resources.iter().any(|own| is_meant(own, target))))
    }
}

/// `pods`, `pods/log`, `*`, `*/scale`, and `pods/*` for pods and all below.
fn is_meant(own: &str, target: &Target) -> bool {
    let Target { resource, subresource, .. } = target;
    match own.split_once('/') {
        None => own == "*" || (subresource.is_empty() && own == resource),
        Some(("*", below)) => !subresource.is_empty() && below == subresource,
        Some((above, "*")) => above == resource,
        Some((above, below)) => above == resource && below == subresource,
    }
}

fn covers(own: &str, path: &str) -> bool {
    own.strip_suffix('*').map_or(own == path, |prefix| path.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy(rules: &serde_json::Value) -> Policy {
        serde_json::from_value(json!({"rules": rules, "omitStages": ["RequestReceived"]})).unwrap()
    }

    fn target(group: &str, resource: &str, subresource: &str) -> Target {
        Target {
            group: group.into(),
            resource: resource.into(),
            subresource: subresource.into(),
            namespace: "here".into(),
            name: "x".into(),
            ..Target::default()
        }
    }

    fn matches(rule: &serde_json::Value, verb: &str, target: Option<&Target>) -> bool {
        let mut rule = rule.clone();
        rule["level"] = "Metadata".into();
        let who = Identity { user: "jane".into(), groups: vec!["dev".into()] };
        let asked = Asked { who: Some(&who), verb, path: "/metrics/x", target };
        policy(&json!([rule])).recording(asked).is_some()
    }

    #[test]
    fn a_rule_matches_by_all_that_it_names() {
        let (pods, log) = (target("", "pods", ""), target("", "pods", "log"));
        let jobs = target("batch", "jobs", "");
        for (rule, pod, its_log, job, url) in [
            (json!({}), true, true, true, true),
            (json!({"users": ["jane"], "userGroups": ["dev"]}), true, true, true, true),
            (json!({"users": ["john"]}), false, false, false, false),
            (json!({"userGroups": ["ops"]}), false, false, false, false),
            (json!({"verbs": ["get"]}), true, true, true, true),
            (json!({"verbs": ["list"]}), false, false, false, false),
            (json!({"resources": [{"resources": ["pods"]}]}), true, false, false, false),
            (json!({"resources": [{"resources": ["pods/log"]}]}), false, true, false, false),
            (json!({"resources": [{"resources": ["*/log"]}]}), false, true, false, false),
            (json!({"resources": [{"resources": ["pods/*"]}]}), true, true, false, false),
            (json!({"resources": [{"resources": ["*"]}]}), true, true, false, false),
            (json!({"resources": [{"group": "batch"}]}), false, false, true, false),
            (
                json!({"resources": [{"resources": ["pods"], "resourceNames": ["y"]}]}),
                false,
                false,
                false,
                false,
            ),
            (json!({"namespaces": ["here"]}), true, true, true, false),
            (json!({"namespaces": ["there"]}), false, false, false, false),
            (json!({"nonResourceURLs": ["/metrics*"]}), false, false, false, true),
            (json!({"nonResourceURLs": ["/metrics"]}), false, false, false, false),
        ] {
            assert_eq!(matches(&rule, "get", Some(&pods)), pod, "pod: {rule}");
            assert_eq!(matches(&rule, "get", Some(&log)), its_log, "log: {rule}");
            assert_eq!(matches(&rule, "get", Some(&jobs)), job, "job: {rule}");
            assert_eq!(matches(&rule, "get", None), url, "url: {rule}");
        }
    }

    #[test]
    fn the_first_rule_says_how_much_and_nothing_is_the_default() {
        let rules = json!([
            {"level": "None", "resources": [{"resources": ["secrets"]}]},
            {"level": "Request", "verbs": ["get"], "omitStages": ["Panic"], "omitManagedFields": true},
        ]);
        let policy = policy(&rules);
        let asked = |verb, target| Asked { who: None, verb, path: "/", target };
        let secrets = target("", "secrets", "");
        assert_eq!(policy.recording(asked("get", Some(&secrets))), None);
        assert_eq!(policy.recording(asked("list", None)), None);
        let found = policy.recording(asked("get", None)).unwrap();
        assert_eq!((found.level, found.omit_managed_fields), (Level::Request, true));
        assert!(!found.has(Stage::RequestReceived) && !found.has(Stage::Panic));
        assert!(found.has(Stage::ResponseComplete));
    }

    #[test]
    fn nobody_is_not_somebody() {
        let policy = policy(&json!([{"level": "Metadata", "users": ["jane"]}]));
        let asked = Asked { who: None, verb: "get", path: "/", target: None };
        assert_eq!(policy.recording(asked), None);
    }
}
