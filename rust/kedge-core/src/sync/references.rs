// SPDX-License-Identifier: Apache-2.0
//! Which objects a pod needs on its node: read from its spec, nothing else of it is kept.

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::sync::Key;
use crate::sync::collections::{self, CERTIFICATES, RBAC};

/// What a view has to know of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodNeeds {
    /// Where it is bound; empty when it is not.
    pub node: String,
    /// Its UID.
    pub uid: String,
    /// `ConfigMaps`, `Secrets`, claims, classes and the `ServiceAccount`, sorted, each once.
    pub keys: Vec<Key>,
}

/// The group of tokens that the cloud obtained for pods.
pub const TOKEN_GROUP: &str = "kedge.io";
/// Their resource.
pub const TOKEN_RESOURCE: &str = "serviceaccounttokens";
/// The bundle of the cluster's CA, which every namespace has.
const ROOT_CA: &str = "kube-root-ca.crt";

#[derive(Deserialize)]
struct Pod {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Metadata {
    name: String,
    namespace: String,
    uid: String,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    node_name: String,
    service_account_name: String,
    runtime_class_name: Option<String>,
    image_pull_secrets: Option<Vec<Name>>,
    volumes: Option<Vec<Volume>>,
    containers: Option<Vec<Container>>,
    init_containers: Option<Vec<Container>>,
    ephemeral_containers: Option<Vec<Container>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Name {
    name: String,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Container {
    env: Option<Vec<Env>>,
    env_from: Option<Vec<EnvFrom>>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Env {
    value_from: Option<ValueFrom>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct ValueFrom {
    config_map_key_ref: Option<Name>,
    secret_key_ref: Option<Name>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct EnvFrom {
    config_map_ref: Option<Name>,
    secret_ref: Option<Name>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Volume {
    name: String,
    config_map: Option<Name>,
    secret: Option<SecretVolume>,
    projected: Option<Projected>,
    persistent_volume_claim: Option<Claim>,
    ephemeral: Option<IgnoredAny>,
    csi: Option<Csi>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Claim {
    claim_name: String,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Csi {
    driver: String,
    node_publish_secret_ref: Option<SecretReference>,
    node_stage_secret_ref: Option<SecretReference>,
    node_expand_secret_ref: Option<SecretReference>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct SecretReference {
    name: String,
    namespace: String,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct SecretVolume {
    secret_name: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Projected {
    sources: Option<Vec<Source>>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Source {
    config_map: Option<Name>,
    secret: Option<Name>,
    cluster_trust_bundle: Option<Bundle>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Bundle {
    name: Option<String>,
    signer_name: Option<String>,
}

/// Reads a pod; none when the bytes are not one.
pub fn pod_needs(pod: &[u8]) -> Option<PodNeeds> {
    let pod: Pod = serde_json::from_slice(pod).ok()?;
    let Metadata { name, namespace, .. } = &pod.metadata;
    let mut found = Found { pod: name, namespace, keys: Vec::new() };
    found.add("configmaps", ROOT_CA);
    found.add("serviceaccounts", &pod.spec.service_account_name);
    let class = pod.spec.runtime_class_name.as_deref();
    found.add_cluster("node.k8s.io", "runtimeclasses", class.unwrap_or_default());
    let pull = pod.spec.image_pull_secrets.iter().flatten();
    pull.for_each(|secret| found.add("secrets", &secret.name));
    pod.spec.volumes.iter().flatten().for_each(|volume| found.volume(volume));
    let spec = &pod.spec;
    let containers = [&spec.containers, &spec.init_containers, &spec.ephemeral_containers];
    containers.into_iter().flatten().flatten().for_each(|container| found.container(container));
    let mut keys = found.keys;
    keys.sort_unstable();
    keys.dedup();
    Some(PodNeeds { node: pod.spec.node_name, uid: pod.metadata.uid, keys })
}

/// What an object needs that a pod needs: claims lead to volumes, bindings to roles.
pub fn object_needs(key: &Key, value: &[u8]) -> Vec<Key> {
    match (key.group.as_str(), key.resource.as_str()) {
        ("", "persistentvolumeclaims") => claim_needs(value),
        ("", "persistentvolumes") => volume_needs(value),
        (RBAC, "rolebindings" | "clusterrolebindings") => binding_needs(key, value),
        _ => None,
    }
    .unwrap_or_default()
}

fn claim_needs(value: &[u8]) -> Option<Vec<Key>> {
    #[derive(Deserialize)]
    struct Claim {
        spec: Spec,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Spec {
        volume_name: String,
    }
    let claim: Claim = serde_json::from_slice(value).ok()?;
    Some(vec![Key::of("", "persistentvolumes", "", &claim.spec.volume_name)])
}

fn volume_needs(value: &[u8]) -> Option<Vec<Key>> {
    #[derive(Deserialize)]
    struct Volume {
        spec: Spec,
    }
    #[derive(Deserialize)]
    struct Spec {
        csi: Csi,
    }
    let csi = serde_json::from_slice::<Volume>(value).ok()?.spec.csi;
    let mut found = vec![Key::of("storage.k8s.io", "csidrivers", "", &csi.driver)];
    let secrets =
        [csi.node_publish_secret_ref, csi.node_stage_secret_ref, csi.node_expand_secret_ref];
    for secret in secrets.into_iter().flatten() {
        found.push(Key::of("", "secrets", &secret.namespace, &secret.name));
    }
    found.sort_unstable();
    found.dedup();
    Some(found)
}

fn binding_needs(key: &Key, value: &[u8]) -> Option<Vec<Key>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Binding {
        role_ref: Role,
    }
    #[derive(Deserialize)]
    struct Role {
        kind: String,
        name: String,
    }
    let role = serde_json::from_slice::<Binding>(value).ok()?.role_ref;
    Some(vec![match role.kind.as_str() {
        "Role" => Key::of(RBAC, "roles", &key.namespace, &role.name),
        _ => Key::of(RBAC, "clusterroles", "", &role.name),
    }])
}

struct Found<'a> {
    pod: &'a str,
    namespace: &'a str,
    keys: Vec<Key>,
}

impl Found<'_> {
    fn add(&mut self, resource: &str, name: &str) {
        if !name.is_empty() {
            self.keys.push(Key::of("", resource, self.namespace, name));
        }
    }

    fn add_cluster(&mut self, group: &str, resource: &str, name: &str) {
        if !name.is_empty() {
            self.keys.push(Key::of(group, resource, "", name));
        }
    }

    fn both(&mut self, config_map: Option<&Name>, secret: Option<&Name>) {
        if let Some(map) = config_map {
            self.add("configmaps", &map.name);
        }
        if let Some(secret) = secret {
            self.add("secrets", &secret.name);
        }
    }

    fn volume(&mut self, volume: &Volume) {
        self.both(volume.config_map.as_ref(), None);
        volume.secret.iter().for_each(|secret| self.add("secrets", &secret.secret_name));
        let sources = volume.projected.iter().filter_map(|p| p.sources.as_ref()).flatten();
        for source in sources {
            self.both(source.config_map.as_ref(), source.secret.as_ref());
            source.cluster_trust_bundle.iter().for_each(|bundle| self.bundle(bundle));
        }
        if let Some(claim) = &volume.persistent_volume_claim {
            self.add("persistentvolumeclaims", &claim.claim_name);
        }
        if volume.ephemeral.is_some() {
            let claim = format!("{}-{}", self.pod, volume.name);
            self.add("persistentvolumeclaims", &claim);
        }
        if let Some(csi) = &volume.csi {
            self.add_cluster("storage.k8s.io", "csidrivers", &csi.driver);
            csi.node_publish_secret_ref.iter().for_each(|one| self.add("secrets", &one.name));
        }
    }

    fn bundle(&mut self, bundle: &Bundle) {
        let Bundle { name, signer_name } = bundle;
        self.add_cluster(CERTIFICATES, "clustertrustbundles", name.as_deref().unwrap_or_default());
        self.keys.extend(signer_name.as_deref().map(collections::signer_key));
    }

    fn container(&mut self, container: &Container) {
        for env in container.env.iter().flatten().filter_map(|env| env.value_from.as_ref()) {
            self.both(env.config_map_key_ref.as_ref(), env.secret_key_ref.as_ref());
        }
        for from in container.env_from.iter().flatten() {
            self.both(from.config_map_ref.as_ref(), from.secret_ref.as_ref());
        }
    }
}

/// The UID of the pod that a token object belongs to.
pub fn token_pod_uid(token: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Token {
        spec: TokenSpec,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct TokenSpec {
        #[serde(rename = "podUID")]
        pod_uid: String,
    }
    serde_json::from_slice::<Token>(token).ok().map(|token| token.spec.pod_uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_name_a_config_map_or_secret_is_found() {
        let pod = br#"{"metadata":{"namespace":"d","uid":"u"},"spec":{"nodeName":"n","serviceAccountName":"sa",
            "imagePullSecrets":[{"name":"pull"}],
            "volumes":[{"name":"a","configMap":{"name":"c1"}},{"name":"b","secret":{"secretName":"s1"}},
              {"name":"p","projected":{"sources":[{"configMap":{"name":"c2"}},{"secret":{"name":"s2"}},{"serviceAccountToken":{"path":"t"}}]}},
              {"name":"e","emptyDir":{}}],
            "containers":[{"env":[{"name":"X","value":"1"},{"name":"Y","valueFrom":{"configMapKeyRef":{"name":"c3","key":"k"}}}],
              "envFrom":[{"secretRef":{"name":"s3"}}]}],
            "initContainers":[{"env":[{"name":"Z","valueFrom":{"secretKeyRef":{"name":"s4"}}}],"envFrom":[{"configMapRef":{"name":"c3"}}]}]}}"#;
        let needs = pod_needs(pod).unwrap();
        let found: Vec<String> =
            needs.keys.iter().map(|k| format!("{}/{}", k.resource, k.name)).collect();
        let wanted = [
            "configmaps/c1",
            "configmaps/c2",
            "configmaps/c3",
            "configmaps/kube-root-ca.crt",
            "secrets/pull",
            "secrets/s1",
            "secrets/s2",
            "secrets/s3",
            "secrets/s4",
            "serviceaccounts/sa",
        ];
        assert_eq!(found, wanted);
        assert_eq!((needs.node.as_str(), needs.uid.as_str()), ("n", "u"));
    }

    #[test]
    fn claims_classes_drivers_and_bundles_are_found() {
        let pod = br#"{"metadata":{"namespace":"d","name":"p","uid":"u"},"spec":{"nodeName":"n","runtimeClassName":"rc",
            "volumes":[{"name":"a","persistentVolumeClaim":{"claimName":"c1"}},{"name":"e","ephemeral":{"volumeClaimTemplate":{}}},
              {"name":"i","csi":{"driver":"drv","nodePublishSecretRef":{"name":"s1"}}},
              {"name":"t","projected":{"sources":[{"clusterTrustBundle":{"name":"b","path":"x"}},{"clusterTrustBundle":{"signerName":"s/x","path":"y"}}]}}]}}"#;
        let needs = pod_needs(pod).unwrap();
        let found: Vec<String> =
            needs.keys.iter().map(|k| format!("{}/{}", k.resource, k.name)).collect();
        let wanted = [
            "configmaps/kube-root-ca.crt",
            "persistentvolumeclaims/c1",
            "persistentvolumeclaims/p-e",
            "secrets/s1",
            "clustertrustbundles/b",
            "signers/s/x",
            "runtimeclasses/rc",
            "csidrivers/drv",
        ];
        assert_eq!(found, wanted);
    }

    #[test]
    fn what_is_not_a_pod_needs_nothing() {
        assert_eq!(pod_needs(b"[]"), None);
        assert_eq!(pod_needs(b"{\"metadata\":7}"), None);
        assert_eq!(pod_needs(br#"{"metadata":{"namespace":"d"}}"#).unwrap().node, "");
    }
}
