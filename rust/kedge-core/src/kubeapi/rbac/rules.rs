// SPDX-License-Identifier: Apache-2.0
//! What a rule of a role covers.

use std::fmt;

use serde::Deserialize;
use serde_json::{Value, json};

const ALL: &str = "*";

/// One thing that somebody wants to do.
#[derive(Clone, Copy, Debug)]
pub(in crate::kubeapi) enum Access<'a> {
    /// To do `verb` on a resource; `subresource` and `name` may be empty.
    Resource {
        verb: &'a str,
        group: &'a str,
        resource: &'a str,
        subresource: &'a str,
        name: &'a str,
    },
    /// To do `verb` (an HTTP method in lower case) on a path that is no resource.
    Url { verb: &'a str, path: &'a str },
}

/// A `PolicyRule`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Rule {
    verbs: Vec<String>,
    #[serde(deserialize_with = "list")]
    api_groups: Vec<String>,
    #[serde(deserialize_with = "list")]
    resources: Vec<String>,
    #[serde(deserialize_with = "list")]
    resource_names: Vec<String>,
    #[serde(rename = "nonResourceURLs", deserialize_with = "list")]
    urls: Vec<String>,
}

/// `null` is an empty list.
pub(super) fn list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Rule {
    /// Whether it allows `access`.
    pub(super) fn covers(&self, access: &Access<'_>) -> bool {
        match *access {
            Access::Resource { verb, group, resource, subresource, name } => {
                has(&self.verbs, verb)
                    && has(&self.api_groups, group)
                    && self.has_resource(resource, subresource)
                    && (self.resource_names.is_empty()
                        || self.resource_names.iter().any(|own| own == name))
            }
            Access::Url { verb, path } => {
                has(&self.verbs, verb) && self.urls.iter().any(|url| covers_path(url, path))
            }
        }
    }

    fn has_resource(&self, resource: &str, subresource: &str) -> bool {
        self.resources.iter().any(|own| {
            if own == ALL {
                return true;
            }
            match own.split_once('/') {
                None => subresource.is_empty() && own == resource,
                Some((ALL, below)) => !subresource.is_empty() && below == subresource,
                Some((above, below)) => above == resource && below == subresource,
            }
        })
    }

    /// As a `SelfSubjectRulesReview` has it: one rule for resources, one for paths, where it has any.
    pub(super) fn described(&self) -> (Option<Value>, Option<Value>) {
        let Self { verbs, api_groups, resources, resource_names, urls } = self;
        let mut found = json!({"verbs": verbs, "apiGroups": api_groups, "resources": resources});
        if !resource_names.is_empty() {
            found["resourceNames"] = json!(resource_names);
        }
        let of_urls = (!urls.is_empty()).then(|| json!({"verbs": verbs, "nonResourceURLs": urls}));
        ((!resources.is_empty()).then_some(found), of_urls)
    }

    /// Every single thing that it allows, for telling whether another rule allows it too.
    pub(super) fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        let names: Vec<&str> = match self.resource_names.as_slice() {
            [] => vec![""],
            names => names.iter().map(String::as_str).collect(),
        };
        let mut found = Vec::new();
        for verb in &self.verbs {
            found.extend(self.urls.iter().map(|path| Part::Url { verb, path }));
            for group in &self.api_groups {
                for resource in &self.resources {
                    found.extend(names.iter().map(|name| Part::Resource {
                        verb,
                        group,
                        resource,
                        name,
                    }));
                }
            }
        }
        found.into_iter()
    }
}

/// One verb on one resource or path of a rule.
#[derive(Debug)]
pub(super) enum Part<'a> {
    Resource { verb: &'a str, group: &'a str, resource: &'a str, name: &'a str },
    Url { verb: &'a str, path: &'a str },
}

impl Part<'_> {
    /// The same as a question. `*` is asked for as it is, so only a `*` covers it.
    pub(super) fn access(&self) -> Access<'_> {
        match *self {
            Part::Resource { verb, group, resource, name } => {
                let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
                Access::Resource { verb, group, resource, subresource, name }
            }
            Part::Url { verb, path } => Access::Url { verb, path },
        }
    }
}

impl fmt::Display for Part<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Resource { verb, group, resource, name } => {
                write!(out, "{verb} {resource}")?;
                if !group.is_empty() {
                    write!(out, ".{group}")?;
                }
                if name.is_empty() { Ok(()) } else { write!(out, " {name:?}") }
            }
            Part::Url { verb, path } => write!(out, "{verb} {path}"),
        }
    }
}

fn has(own: &[String], wanted: &str) -> bool {
    own.iter().any(|one| one == ALL || one == wanted)
}

fn covers_path(url: &str, path: &str) -> bool {
    match url.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => url == path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(json: &str) -> Rule {
        serde_json::from_str(json).unwrap()
    }

    fn access<'a>(verb: &'a str, resource: &'a str, subresource: &'a str) -> Access<'a> {
        Access::Resource { verb, group: "", resource, subresource, name: "a" }
    }

    #[test]
    fn a_rule_covers_its_verbs_groups_and_resources_and_no_others() {
        let pods = rule(r#"{"verbs":["get"],"apiGroups":[""],"resources":["pods","pods/log"]}"#);
        assert!(pods.covers(&access("get", "pods", "")));
        assert!(pods.covers(&access("get", "pods", "log")));
        assert!(!pods.covers(&access("get", "pods", "exec")));
        assert!(!pods.covers(&access("list", "pods", "")));
        assert!(!pods.covers(&access("get", "nodes", "")));
        let other = Access::Resource {
            verb: "get",
            group: "metrics.k8s.io",
            resource: "pods",
            subresource: "",
            name: "",
        };
        assert!(!pods.covers(&other));
    }

    #[test]
    fn stars_cover_all_of_their_place() {
        let all = rule(r#"{"verbs":["*"],"apiGroups":["*"],"resources":["*"]}"#);
        assert!(all.covers(&access("delete", "pods", "exec")));
        assert!(!all.covers(&Access::Url { verb: "get", path: "/metrics" }));
        let scale = rule(r#"{"verbs":["get"],"apiGroups":["*"],"resources":["*/scale"]}"#);
        assert!(scale.covers(&access("get", "deployments", "scale")));
        assert!(!scale.covers(&access("get", "deployments", "")));
        let urls = rule(r#"{"verbs":["get"],"nonResourceURLs":["/healthz","/api/*"]}"#);
        assert!(urls.covers(&Access::Url { verb: "get", path: "/api/v1" }));
        assert!(!urls.covers(&Access::Url { verb: "get", path: "/healthz/x" }));
    }

    #[test]
    fn names_narrow_a_rule_down() {
        let one = rule(
            r#"{"verbs":["get"],"apiGroups":[""],"resources":["pods"],"resourceNames":["a"]}"#,
        );
        assert!(one.covers(&access("get", "pods", "")));
        let nameless = Access::Resource {
            verb: "get",
            group: "",
            resource: "pods",
            subresource: "",
            name: "",
        };
        assert!(!one.covers(&nameless));
    }

    #[test]
    fn missing_and_null_lists_are_empty() {
        let bare = rule(r#"{"verbs":["get"],"resources":null}"#);
        assert!(!bare.covers(&access("get", "pods", "")));
    }
}
