// SPDX-License-Identifier: Apache-2.0
//! What the server is told at its start, as JSON from Python.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::audit;
use super::path::Target;
use super::policy::Policy;
use crate::{Error, Kind, Result};

/// Everything that does not change while the server runs.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    pub(super) listen: SocketAddr,
    /// Further addresses.
    #[serde(default)]
    pub(super) also_listen: Vec<SocketAddr>,
    /// PEM, the server's own certificate first.
    pub(super) certificate: String,
    /// PEM.
    pub(super) key: String,
    /// PEM of the authority of client certificates; empty means none are accepted.
    #[serde(default)]
    pub(super) client_ca: String,
    /// PEM public keys, certificates or private keys that `ServiceAccount` tokens are signed with.
    #[serde(default)]
    pub(super) service_account_keys: Vec<String>,
    #[serde(default)]
    pub(super) issuer: String,
    /// A `ServiceAccount` token must name one of these; empty means the issuer.
    #[serde(default)]
    pub(super) audiences: Vec<String>,
    #[serde(default)]
    pub(super) tokens: Vec<StaticToken>,
    pub(super) resources: Vec<ResourceRow>,
    #[serde(default)]
    pub(super) policy: Policy,
    /// Whether roles and bindings in the store allow too what the policy does not.
    #[serde(default)]
    pub(super) rbac: bool,
    #[serde(default)]
    pub(super) limits: Limits,
    /// What `/version` says.
    #[serde(default)]
    pub(super) version: Value,
    /// Requests to NODE.DOMAIN are for the kubelet of that node; empty for none.
    #[serde(default)]
    pub(super) node_domain: String,
    /// That the store is a node's replica.
    #[serde(default)]
    pub(super) replica: Option<Replica>,
    /// What is written down of requests; nothing if there is none.
    #[serde(default)]
    pub(super) audit: Option<audit::Config>,
}

/// What a node's server has to know beside.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Replica {
    /// What versions begin at.
    pub(super) base: u64,
    /// The (group, plural) pairs that are read from the store; others are the cloud's.
    pub(super) kinds: Vec<(String, String)>,
    /// A directory of documents with an `index.json`.
    #[serde(default)]
    pub(super) documents: PathBuf,
}

/// A bearer token from configuration.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StaticToken {
    pub(super) token: String,
    pub(super) user: String,
    #[serde(default)]
    pub(super) groups: Vec<String>,
}

/// A served resource; what else the table in Python says is not needed here.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct ResourceRow {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) kind: String,
    pub(super) resource: String,
    pub(super) namespaced: bool,
    #[serde(default)]
    pub(super) verbs: Vec<String>,
    #[serde(default)]
    pub(super) subresources: Vec<Value>,
    /// What field selectors may name beside `metadata.name` and `metadata.namespace`.
    #[serde(default)]
    pub(super) selectable: Vec<String>,
}

/// Bounds on what a client can make us hold or wait for.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Limits {
    pub(super) head_bytes: usize,
    pub(super) body_bytes: usize,
    /// All bodies being read at a time.
    pub(super) all_bodies_bytes: usize,
    pub(super) connections: usize,
    /// Requests at a time, watches aside.
    pub(super) requests: usize,
    pub(super) watches: usize,
    /// Requests waiting for Python.
    pub(super) queue: usize,
    pub(super) handshake_seconds: f64,
    /// For a whole head, and how long a kept connection may idle.
    pub(super) head_seconds: f64,
    pub(super) body_seconds: f64,
    /// How long a client may refuse to read.
    pub(super) write_seconds: f64,
    /// The same for logs that are followed, exec, attach and port-forward.
    pub(super) stream_write_seconds: f64,
    /// For an answer from Python.
    pub(super) answer_seconds: f64,
    pub(super) bookmark_seconds: f64,
    /// A watch without timeoutSeconds ends after this, up to twice of it.
    pub(super) watch_seconds: f64,
    /// Answers from this size on are compressed when the client asks for it.
    pub(super) gzip_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes: 64 * 1024,
            body_bytes: 3 * 1024 * 1024,
            all_bodies_bytes: 64 * 1024 * 1024,
            connections: 2_000,
            requests: 600,
            watches: 5_000,
            queue: 1_000,
            handshake_seconds: 10.0,
            head_seconds: 120.0,
            body_seconds: 30.0,
            write_seconds: 60.0,
            stream_write_seconds: 3_600.0,
            answer_seconds: 60.0,
            bookmark_seconds: 60.0,
            watch_seconds: 1_800.0,
            gzip_bytes: 128 * 1024,
        }
    }
}

/// Seconds from configuration as a duration; nonsense becomes zero.
pub(super) fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value).unwrap_or_default()
}

impl Config {
    /// Reads and checks `text`.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut config: Self = serde_json::from_str(text)
            .map_err(|error| Error::new(Kind::Invalid, format!("server configuration: {error}")))?;
        if config.audiences.is_empty() && !config.issuer.is_empty() {
            config.audiences.push(config.issuer.clone());
        }
        if config.version.is_null() {
            config.version = json!({"major": "1", "minor": "36", "gitVersion": "v1.36.0"});
        }
        Ok(config)
    }
}

/// A resource with all that answers about it need.
#[derive(Clone, Debug)]
pub(super) struct Resource {
    pub(super) row: ResourceRow,
    /// `v1` or `apps/v1`.
    pub(super) api_version: String,
    subresources: Vec<String>,
}

impl Resource {
    fn new(row: ResourceRow) -> Self {
        let api_version = if row.group.is_empty() {
            row.version.clone()
        } else {
            format!("{}/{}", row.group, row.version)
        };
        let subresources = row.subresources.iter().filter_map(subresource_name).collect();
        Self { row, api_version, subresources }
    }

    /// Whether `name` is one of its subresources.
    pub(super) fn has(&self, name: &str) -> bool {
        self.subresources.iter().any(|own| own == name)
    }

    /// Whether a field selector may name `field`.
    pub(super) fn selects(&self, field: &str) -> bool {
        field == "metadata.name"
            || (field == "metadata.namespace" && self.row.namespaced)
            || self.row.selectable.iter().any(|own| own == field)
    }

    /// Whether it may be asked for `verb` at all.
    pub(super) fn serves(&self, verb: &str) -> bool {
        self.row.verbs.is_empty() || self.row.verbs.iter().any(|own| own == verb)
    }
}

/// A subresource is given by name, or as an object that has one.
fn subresource_name(value: &Value) -> Option<String> {
    let name = value.as_str().or_else(|| value.get("name")?.as_str())?;
    Some(name.rsplit('/').next().unwrap_or(name).to_owned())
}

/// The resources by group, version and plural.
pub(super) struct Catalogue(HashMap<(String, String, String), Resource>);

impl Catalogue {
    /// Takes the table's rows.
    pub(super) fn new(rows: &[ResourceRow]) -> Self {
        let key =
            |row: &ResourceRow| (row.group.clone(), row.version.clone(), row.resource.clone());
        Self(rows.iter().map(|row| (key(row), Resource::new(row.clone()))).collect())
    }

    /// The resource that `target` names.
    pub(super) fn find(&self, target: &Target) -> Option<&Resource> {
        let key = (target.group.clone(), target.version.clone(), target.resource.clone());
        self.0.get(&key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_with_their_subresources_and_verbs() {
        let rows: Vec<ResourceRow> = serde_json::from_value(json!([
            {"group": "apps", "version": "v1", "kind": "Deployment", "resource": "deployments",
             "namespaced": true, "verbs": ["get"], "subresources": ["scale", {"name": "deployments/status"}],
             "short_names": ["deploy"]}
        ]))
        .unwrap();
        let catalogue = Catalogue::new(&rows);
        let target = Target {
            group: "apps".into(),
            version: "v1".into(),
            resource: "deployments".into(),
            ..Target::default()
        };
        let found = catalogue.find(&target).unwrap();
        assert_eq!(found.api_version, "apps/v1");
        assert!(found.has("scale") && found.has("status") && !found.has("binding"));
        assert!(found.serves("get") && !found.serves("list"));
        assert!(catalogue.find(&Target { version: "v2".into(), ..target }).is_none());
    }

    #[test]
    fn an_unknown_setting_is_refused_by_name() {
        let error = Config::parse(r#"{"listen": "127.0.0.1:0", "colour": 1}"#).err().unwrap();
        assert!(error.message.contains("colour"), "{error}");
    }
}
