// SPDX-License-Identifier: Apache-2.0
//! Whether a node's certificate still counts (decision 0064).
//!
//! A certificate is for one Node object, which it names by UID, and a Node is pinned to one public
//! key, by an annotation that the cloud writes. So who deletes a Node refuses its certificates, and
//! who gives its name to another key refuses those of the old one; nothing has to be remembered.
//! The mirror is asked whenever a node connects and whenever its Node changes.

use std::collections::HashMap;

use rustls::pki_types::CertificateDer;
use serde::Deserialize;

use crate::hub::tls;
use crate::pki;
use crate::{Error, Kind, Result};

/// The annotation of a Node that holds the hash of the key that its name belongs to.
pub(crate) const PIN: &str = "kedge.io/public-key";
/// How a certificate names its Node.
const UID: &str = "URI:urn:uuid:";

/// What a certificate claims.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claim {
    /// The node's name.
    pub(crate) node: String,
    /// The UID of its Node.
    pub(crate) uid: String,
    /// The hash of its public key.
    pub(crate) key_hash: String,
    /// The hash of the key that a renewal on its link is about to pin.
    pub(crate) next_key: String,
}

#[derive(Deserialize)]
struct Node {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    uid: String,
    annotations: Option<HashMap<String, String>>,
}

impl Claim {
    /// The claim of a certificate that TLS has verified.
    pub(crate) fn of(certificate: &CertificateDer<'_>, now: i64) -> Result<Self> {
        let (node, details) = tls::node_of(certificate, now)?;
        let uid = details.sans.iter().find_map(|name| name.strip_prefix(UID));
        Ok(Self {
            node,
            uid: uid.unwrap_or_default().to_owned(),
            key_hash: pki::key_hash_der(certificate)?,
            next_key: String::new(),
        })
    }

    /// Whether it holds for the Node of its name, if there is one.
    pub(crate) fn check(&self, node: Option<&[u8]>) -> Result<()> {
        let name = &self.node;
        let Some(node) = node else {
            return refuse(format!(
                "node {name} was deleted from the cluster: join it again with a token (kedge join)"
            ));
        };
        let Node { metadata } = serde_json::from_slice(node).map_err(|error| {
            Error::new(Kind::Certificate, format!("the Node {name} cannot be read: {error}"))
        })?;
        if self.uid.is_empty() || metadata.uid != self.uid {
            return refuse(format!(
                "the certificate is for an earlier Node {name}, which was deleted: \
                 join it again with a token (kedge join)"
            ));
        }
        let pin = metadata.annotations.as_ref().and_then(|annotations| annotations.get(PIN));
        match pin {
            Some(pin) if *pin == self.key_hash || *pin == self.next_key => Ok(()),
            Some(_) => refuse(format!(
                "the name {name} belongs to another key: join under another name, \
                 or with a token made by kedge token create --rejoin"
            )),
            None => refuse(format!(
                "the Node {name} has lost its annotation {PIN}: \
                 join it again with a token made by kedge token create --rejoin"
            )),
        }
    }
}

fn refuse(message: String) -> Result<()> {
    Err(Error::new(Kind::Certificate, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim() -> Claim {
        Claim {
            node: "n1".into(),
            uid: "u1".into(),
            key_hash: "sha256:a".into(),
            ..Claim::default()
        }
    }

    fn node(uid: &str, pin: &str) -> String {
        format!(r#"{{"metadata":{{"uid":"{uid}","annotations":{{"{PIN}":"{pin}"}}}}}}"#)
    }

    fn refusal(claim: &Claim, node: Option<&str>) -> String {
        claim.check(node.map(str::as_bytes)).unwrap_err().message
    }

    #[test]
    fn the_key_that_a_node_is_pinned_to_is_let_in() {
        claim().check(Some(node("u1", "sha256:a").as_bytes())).unwrap();
    }

    #[test]
    fn a_deleted_node_is_refused_and_so_is_its_certificate_when_the_name_comes_back() {
        assert!(refusal(&claim(), None).contains("n1 was deleted"));
        assert!(refusal(&claim(), Some(&node("u2", "sha256:a"))).contains("an earlier Node n1"));
    }

    #[test]
    fn a_certificate_that_names_no_node_is_refused_even_where_the_node_has_no_uid() {
        let claim = Claim { uid: String::new(), ..claim() };
        assert!(refusal(&claim, Some(&node("", "sha256:a"))).contains("an earlier Node"));
    }

    #[test]
    fn a_key_that_lost_the_name_is_refused_except_for_the_one_that_it_renews_to() {
        assert!(refusal(&claim(), Some(&node("u1", "sha256:b"))).contains("another key"));
        let renewing = Claim { next_key: "sha256:b".into(), ..claim() };
        renewing.check(Some(node("u1", "sha256:b").as_bytes())).unwrap();
    }

    #[test]
    fn a_node_without_a_pin_is_nobodys() {
        for metadata in [r#"{"uid":"u1"}"#, r#"{"uid":"u1","annotations":null}"#] {
            let node = format!(r#"{{"metadata":{metadata}}}"#);
            assert!(refusal(&claim(), Some(&node)).contains("has lost its annotation"));
        }
        assert!(refusal(&claim(), Some("{")).contains("cannot be read"));
    }
}
