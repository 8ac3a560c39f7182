// SPDX-License-Identifier: Apache-2.0
//! From a path of the API to a path of the kubelet: which node, which container, which options.

use std::fmt::Write as _;

use serde::Deserialize;

use crate::kubeapi::path::Target;
use crate::kubeapi::query::Query;
use crate::kubeapi::status::Failure;
use crate::store::{Key, Store};
use crate::{Error, Kind};

/// What is wished of a node.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) node: String,
    /// Path and query for its kubelet server.
    pub(super) path: String,
    pub(super) streams: Streams,
}

/// The streams of exec and attach.
#[allow(clippy::struct_excessive_bools, reason = "they are the API's")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Streams {
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    pub(super) tty: bool,
}

#[derive(Deserialize)]
struct Pod {
    spec: PodSpec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodSpec {
    #[serde(default)]
    node_name: String,
    #[serde(default)]
    containers: Vec<Named>,
    #[serde(default)]
    init_containers: Vec<Named>,
    #[serde(default)]
    ephemeral_containers: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

/// What the client wishes.
pub(super) fn wish(
    store: &Store,
    target: &Target,
    query: &Query,
    raw: &str,
) -> Result<Wish, Failure> {
    if target.resource == "nodes" {
        return node_proxy(store, target, raw);
    }
    let pod = read_pod(store, target)?;
    let Target { namespace, name, .. } = target;
    let mut to = Parameters::default();
    let mut streams = Streams::default();
    let path = match target.subresource.as_str() {
        "log" => {
            let container = choose(&pod, query.get("container"), name)?;
            for option in ["sinceSeconds", "sinceTime", "tailLines", "limitBytes", "stream"] {
                to.add(option, query.get(option));
            }
            for option in ["follow", "previous", "timestamps"] {
                to.flag(option, query.flag(option)?);
            }
            format!("/containerLogs/{namespace}/{name}/{container}")
        }
        "portforward" => {
            for port in query.all("ports").flat_map(|ports| ports.split(',')) {
                to.add("port", port);
            }
            format!("/portForward/{namespace}/{name}")
        }
        verb => {
            let container = choose(&pod, query.get("container"), name)?;
            streams = Streams {
                stdin: query.flag("stdin")?,
                stdout: query.flag("stdout")?,
                stderr: query.flag("stderr")?,
                tty: query.flag("tty")?,
            };
            if !(streams.stdin || streams.stdout || streams.stderr) {
                return Err(bad("you must specify at least one of stdin, stdout, stderr".into()));
            }
            to.flag("input", streams.stdin);
            to.flag("output", streams.stdout);
            // A terminal has one output.
            to.flag("error", streams.stderr && !streams.tty);
            to.flag("tty", streams.tty);
            if verb == "exec" {
                let mut words = 0;
                for word in query.all("command") {
                    to.add_even_empty("command", word);
                    words += 1;
                }
                if words == 0 {
                    return Err(bad(
                        "you must specify at least one command for the container".into()
                    ));
                }
            }
            format!("/{verb}/{namespace}/{name}/{container}")
        }
    };
    Ok(Wish { node: pod.spec.node_name, path: to.after(path), streams })
}

/// `nodes/NAME/proxy/REST`; the name may have the kubelet's port, and a scheme before it.
fn node_proxy(store: &Store, target: &Target, raw: &str) -> Result<Wish, Failure> {
    let name = target.name.rsplit_once(':').map_or(target.name.as_str(), |(name, port)| {
        if port.is_empty() || port == "10250" { name } else { &target.name }
    });
    let name = name.strip_prefix("https:").or_else(|| name.strip_prefix("http:")).unwrap_or(name);
    if store.get(&Key::new("", "nodes", "", name))?.is_none() {
        return Err(Failure::not_found("nodes", "", name));
    }
    let path = if raw.is_empty() {
        format!("/{}", target.rest)
    } else {
        format!("/{}?{raw}", target.rest)
    };
    Ok(Wish { node: name.to_owned(), path, streams: Streams::default() })
}

fn read_pod(store: &Store, target: &Target) -> Result<Pod, Failure> {
    let Target { namespace, name, .. } = target;
    let found = store.get(&Key::new("", "pods", namespace, name))?;
    let found = found.ok_or_else(|| Failure::not_found("pods", "", name))?;
    let pod: Pod = serde_json::from_slice(&found.value)
        .map_err(|error| Error::new(Kind::Internal, format!("pod {name}: {error}")))?;
    if pod.spec.node_name.is_empty() {
        return Err(bad(format!("pod {name} does not have a host assigned")));
    }
    Ok(pod)
}

fn choose(pod: &Pod, wanted: &str, name: &str) -> Result<String, Failure> {
    let spec = &pod.spec;
    let every =
        || spec.containers.iter().chain(&spec.init_containers).chain(&spec.ephemeral_containers);
    let names = |of: &[Named]| of.iter().map(|one| one.name.as_str()).collect::<Vec<_>>().join(" ");
    match (wanted, spec.containers.as_slice()) {
        ("", [only]) => Ok(only.name.clone()),
        ("", many) => {
            let mut text = format!(
                "a container name must be specified for pod {name}, choose one of: [{}]",
                names(many)
            );
            if !spec.init_containers.is_empty() {
                let init = names(&spec.init_containers);
                text = format!("{text} or one of the init containers: [{init}]");
            }
            Err(bad(text))
        }
        _ if every().any(|one| one.name == wanted) => Ok(wanted.to_owned()),
        _ => Err(bad(format!("container {wanted} is not valid for pod {name}"))),
    }
}

fn bad(message: String) -> Failure {
    Failure::new(400, "BadRequest", message)
}

/// A query under construction.
#[derive(Default)]
struct Parameters(String);

impl Parameters {
    fn add(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.add_even_empty(name, value);
        }
    }

    fn add_even_empty(&mut self, name: &str, value: &str) {
        self.0.push(if self.0.is_empty() { '?' } else { '&' });
        self.0.push_str(name);
        self.0.push('=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                self.0.push(char::from(byte));
            } else {
                // A String takes everything.
                let _ = write!(self.0, "%{byte:02X}");
            }
        }
    }

    fn flag(&mut self, name: &str, set: bool) {
        if set {
            self.add(name, "true");
        }
    }

    fn after(self, mut path: String) -> String {
        path.push_str(&self.0);
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(names: &[&str], init: &[&str]) -> Pod {
        let named =
            |names: &[&str]| names.iter().map(|name| Named { name: (*name).into() }).collect();
        Pod {
            spec: PodSpec {
                node_name: "n".into(),
                containers: named(names),
                init_containers: named(init),
                ephemeral_containers: Vec::new(),
            },
        }
    }

    #[test]
    fn the_only_container_need_not_be_named() {
        assert_eq!(choose(&pod(&["a"], &["i"]), "", "p").unwrap(), "a");
        assert_eq!(choose(&pod(&["a"], &["i"]), "i", "p").unwrap(), "i");
    }

    #[test]
    fn one_of_several_must_be_named_and_must_be_there() {
        let error = choose(&pod(&["a", "b"], &["i"]), "", "p").unwrap_err();
        assert_eq!(
            (error.code, error.message.as_str()),
            (
                400,
                "a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [i]"
            )
        );
        let error = choose(&pod(&["a"], &[]), "x", "p").unwrap_err();
        assert_eq!(error.message, "container x is not valid for pod p");
    }

    #[test]
    fn words_of_a_command_are_kept_as_they_are() {
        let mut to = Parameters::default();
        to.add_even_empty("command", "echo");
        to.add_even_empty("command", "a b&c=\u{e9}");
        to.add_even_empty("command", "");
        to.add("left", "");
        assert_eq!(to.after("/x".into()), "/x?command=echo&command=a%20b%26c%3D%C3%A9&command=");
    }
}
