// SPDX-License-Identifier: Apache-2.0
//! Endpoints, Ingresses and `NetworkPolicies` as kubectl prints them.

use serde_json::Value;

use super::format::{
    NONE, UNSET, age, items, number, or_none, selector, text, text_or, text_or_none,
};
use super::{AGE, Column, NAME, Printer};

const MOST: usize = 3;

pub(super) static ENDPOINTS: Printer =
    Printer::new(&[NAME, Column::text("Endpoints", "Addresses and ports."), AGE], |object, now| {
        let all: Vec<String> = items(object, "/subsets").iter().flat_map(subset).collect();
        vec![name(object), or_none(some(&all)).into(), age(object, now).into()]
    });

pub(super) static SLICES: Printer = Printer::new(
    &[
        NAME,
        Column::text("AddressType", "What its addresses are."),
        Column::text("Ports", "What they listen on."),
        Column::text("Endpoints", "Addresses."),
        AGE,
    ],
    |object, now| {
        let ports: Vec<String> = items(object, "/ports")
            .iter()
            .map(|port| match number(port, "/port") {
                0 => "*".to_owned(),
                number => number.to_string(),
            })
            .collect();
        let addresses = items(object, "/endpoints").iter().flat_map(|one| items(one, "/addresses"));
        let addresses: Vec<String> =
            addresses.filter_map(Value::as_str).map(str::to_owned).collect();
        let or_unset = |text: String| if text.is_empty() { UNSET.to_owned() } else { text };
        vec![
            name(object),
            text(object, "/addressType").into(),
            or_unset(some(&ports)).into(),
            or_unset(some(&addresses)).into(),
            age(object, now).into(),
        ]
    },
);

pub(super) static INGRESSES: Printer = Printer::new(
    &[
        NAME,
        Column::text("Class", "Who serves it."),
        Column::text("Hosts", "Names that it is for."),
        Column::text("Address", "Where it is reached."),
        Column::text("Ports", "What is listened on."),
        AGE,
    ],
    |object, now| {
        let hosts = items(object, "/spec/rules").iter().map(|rule| text(rule, "/host"));
        let hosts: Vec<String> = hosts.filter(|host| !host.is_empty()).map(str::to_owned).collect();
        let addresses = items(object, "/status/loadBalancer/ingress").iter();
        let addresses: Vec<&str> =
            addresses.map(|one| text_or(one, "/ip", text(one, "/hostname"))).collect();
        let is_secure = !items(object, "/spec/tls").is_empty();
        vec![
            name(object),
            text_or_none(object, "/spec/ingressClassName").into(),
            if hosts.is_empty() { "*".into() } else { some(&hosts).into() },
            addresses.join(",").into(),
            if is_secure { "80, 443" } else { "80" }.into(),
            age(object, now).into(),
        ]
    },
);

pub(super) static INGRESS_CLASSES: Printer = Printer::new(
    &[
        NAME,
        Column::text("Controller", "Who serves it."),
        Column::text("Parameters", "Where its settings are."),
        AGE,
    ],
    |object, now| {
        let parameters = match text(object, "/spec/parameters/name") {
            "" => NONE.to_owned(),
            name => {
                let group = match text(object, "/spec/parameters/apiGroup") {
                    "" => String::new(),
                    group => format!(".{group}"),
                };
                format!("{}{group}/{name}", text(object, "/spec/parameters/kind"))
            }
        };
        vec![
            name(object),
            text(object, "/spec/controller").into(),
            parameters.into(),
            age(object, now).into(),
        ]
    },
);

pub(super) static POLICIES: Printer = Printer::new(
    &[NAME, Column::text("Pod-Selector", "What pods it is for."), AGE],
    |object, now| {
        vec![name(object), selector(object, "/spec/podSelector").into(), age(object, now).into()]
    },
);

fn name(object: &Value) -> Value {
    text(object, "/metadata/name").into()
}

/// The first few of a list, and how many there are beside.
fn some(all: &[String]) -> String {
    let shown = all[..all.len().min(MOST)].join(",");
    match all.len().saturating_sub(MOST) {
        0 => shown,
        more => format!("{shown} + {more} more..."),
    }
}

fn subset(subset: &Value) -> Vec<String> {
    let addresses = items(subset, "/addresses");
    let ports = items(subset, "/ports");
    if ports.is_empty() {
        return addresses.iter().map(|one| text(one, "/ip").to_owned()).collect();
    }
    let pair = |port: &Value, address: &Value| {
        let (ip, port) = (text(address, "/ip"), number(port, "/port"));
        if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
    };
    ports.iter().flat_map(|port| addresses.iter().map(move |address| pair(port, address))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::cells;

    #[test]
    fn endpoints_are_pairs_and_some_of_many() {
        let object = json!({"metadata": {"name": "e"}, "subsets": [{
            "addresses": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}],
            "ports": [{"port": 80}, {"port": 443}]}]});
        let want = "10.0.0.1:80,[fd00::1]:80,10.0.0.1:443 + 1 more...";
        assert_eq!(cells("", "endpoints", &object), ["e", want, "<unknown>"]);
        let bare = json!({"subsets": [{"addresses": [{"ip": "10.0.0.1"}]}]});
        assert_eq!(cells("", "endpoints", &bare)[1], "10.0.0.1");
        assert_eq!(cells("", "endpoints", &json!({}))[1], "<none>");
    }

    #[test]
    fn a_slice_shows_ports_and_addresses() {
        let object = json!({"metadata": {"name": "s"}, "addressType": "IPv4",
            "ports": [{"port": 80}, {"name": "any"}],
            "endpoints": [{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"]}]});
        let want = ["s", "IPv4", "80,*", "10.0.0.1,10.0.0.2", "<unknown>"];
        assert_eq!(cells("discovery.k8s.io", "endpointslices", &object), want);
        let empty = cells("discovery.k8s.io", "endpointslices", &json!({}));
        assert_eq!(empty[2..4], ["<unset>", "<unset>"]);
    }

    #[test]
    fn an_ingress_shows_hosts_and_where_it_is() {
        let object = json!({"metadata": {"name": "i"}, "spec": {"ingressClassName": "n",
            "tls": [{}], "rules": [{"host": "a"}, {"host": "b"}, {"host": "c"}, {"host": "d"}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}, {"hostname": "x"}]}}});
        let want = ["i", "n", "a,b,c + 1 more...", "1.2.3.4,x", "80, 443", "<unknown>"];
        assert_eq!(cells("networking.k8s.io", "ingresses", &object), want);
        let bare = cells("networking.k8s.io", "ingresses", &json!({}));
        assert_eq!(bare[1..5], ["<none>", "*", "", "80"]);
    }

    #[test]
    fn a_class_shows_its_parameters_and_a_policy_its_pods() {
        let class = json!({"metadata": {"name": "c"}, "spec": {"controller": "x/y",
            "parameters": {"apiGroup": "g", "kind": "K", "name": "n"}}});
        let want = ["c", "x/y", "K.g/n", "<unknown>"];
        assert_eq!(cells("networking.k8s.io", "ingressclasses", &class), want);
        let policy = json!({"spec": {"podSelector": {"matchLabels": {"a": "b"}}}});
        assert_eq!(cells("networking.k8s.io", "networkpolicies", &policy)[1], "a=b");
    }
}
