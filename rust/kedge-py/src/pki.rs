// SPDX-License-Identifier: Apache-2.0
//! Python's `pki`: thin wrappers over `kedge_core::pki`.

#![expect(clippy::needless_pass_by_value, reason = "PyO3 hands lists over by value")]
#![expect(
    clippy::too_many_arguments,
    reason = "flat values cross the boundary; the face names them"
)]

use kedge_core::pki::{self, Issue, SigningKey, VerifyingKey};
use pyo3::prelude::*;

use crate::door::Enter;

type Pair = (String, String);

#[pyfunction]
fn pki_new_key(py: Python<'_>) -> PyResult<String> {
    py.enter(pki::new_key)
}

#[pyfunction]
fn pki_create_ca(py: Python<'_>, common_name: &str, days: u32) -> PyResult<Pair> {
    py.enter(|| pki::create_ca(common_name, days))
}

#[pyfunction]
#[pyo3(signature = (ca_cert, ca_key, common_name, organizations, dns_names, ip_addresses, uris, days, server, client))]
#[expect(
    clippy::too_many_arguments,
    reason = "flat values cross the boundary; the face names them"
)]
fn pki_issue(
    py: Python<'_>,
    ca_cert: &str,
    ca_key: &str,
    common_name: &str,
    organizations: Vec<String>,
    dns_names: Vec<String>,
    ip_addresses: Vec<String>,
    uris: Vec<String>,
    days: u32,
    server: bool,
    client: bool,
) -> PyResult<Pair> {
    let wanted = Issue {
        common_name,
        organizations: &organizations,
        dns_names: &dns_names,
        ip_addresses: &ip_addresses,
        uris: &uris,
        days,
        server,
        client,
    };
    py.enter(|| pki::issue(ca_cert, ca_key, &wanted))
}

#[pyfunction]
fn pki_make_csr(py: Python<'_>, common_name: &str, organizations: Vec<String>) -> PyResult<Pair> {
    py.enter(|| pki::make_csr(common_name, &organizations))
}

#[pyfunction]
fn pki_make_csr_with_key(
    py: Python<'_>,
    common_name: &str,
    organizations: Vec<String>,
    key: &str,
) -> PyResult<String> {
    py.enter(|| pki::make_csr_with_key(common_name, &organizations, key))
}

#[pyfunction]
fn pki_sign_csr(
    py: Python<'_>,
    ca_cert: &str,
    ca_key: &str,
    csr: &str,
    common_name: &str,
    organizations: Vec<String>,
    uris: Vec<String>,
    days: u32,
) -> PyResult<String> {
    let wanted = Issue {
        common_name,
        organizations: &organizations,
        uris: &uris,
        days,
        client: true,
        ..Issue::default()
    };
    py.enter(|| pki::sign_csr(ca_cert, ca_key, csr, &wanted))
}

/// (common name, organizations, not before, not after, serial, alternative names, is CA)
type Details = (String, Vec<String>, i64, i64, String, Vec<String>, bool);

#[pyfunction]
fn pki_inspect(py: Python<'_>, certificate: &str) -> PyResult<Details> {
    let d = py.enter(|| pki::inspect(certificate))?;
    Ok((d.common_name, d.organizations, d.not_before, d.not_after, d.serial, d.sans, d.is_ca))
}

#[pyfunction]
fn pki_check(py: Python<'_>, certificate: &str, ca_cert: &str, now: i64) -> PyResult<()> {
    py.enter(|| pki::check(certificate, ca_cert, now))
}

#[pyfunction]
fn pki_fingerprint(py: Python<'_>, certificate: &str) -> PyResult<String> {
    py.enter(|| pki::fingerprint(certificate))
}

#[pyfunction]
fn pki_ca_hash(py: Python<'_>, certificate: &str) -> PyResult<String> {
    py.enter(|| pki::ca_hash(certificate))
}

#[pyfunction]
fn pki_csr_key_hash(py: Python<'_>, csr: &str) -> PyResult<String> {
    py.enter(|| pki::csr_key_hash(csr))
}

#[pyfunction]
fn pki_same_key(py: Python<'_>, certificate: &str, key: &str) -> PyResult<bool> {
    py.enter(|| pki::same_key(certificate, key))
}

#[pyfunction]
fn pki_public_key(py: Python<'_>, key: &str) -> PyResult<String> {
    py.enter(|| pki::public_key(key))
}

#[pyfunction]
fn pki_jwt_sign(py: Python<'_>, key: &str, claims: &str, key_id: &str) -> PyResult<String> {
    py.enter(|| pki::sign(&SigningKey::from_pem(key)?, claims, key_id))
}

#[pyfunction]
fn pki_jwt_verify(
    py: Python<'_>,
    keys: Vec<String>,
    token: &str,
    now: i64,
    audiences: Vec<String>,
) -> PyResult<String> {
    py.enter(|| pki::verify(&verifying(&keys)?, token, now, &audiences))
}

#[pyfunction]
fn pki_jwks(py: Python<'_>, keys: Vec<String>) -> PyResult<String> {
    py.enter(|| Ok(pki::jwks(&verifying(&keys)?)))
}

#[pyfunction]
fn pki_random_token(py: Python<'_>, bytes: usize) -> PyResult<String> {
    py.enter(|| pki::random_token(bytes))
}

fn verifying(keys: &[String]) -> kedge_core::Result<Vec<VerifyingKey>> {
    keys.iter().map(|text| VerifyingKey::from_pem(text)).collect()
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(pki_new_key, module)?)?;
    module.add_function(wrap_pyfunction!(pki_create_ca, module)?)?;
    module.add_function(wrap_pyfunction!(pki_issue, module)?)?;
    module.add_function(wrap_pyfunction!(pki_make_csr, module)?)?;
    module.add_function(wrap_pyfunction!(pki_make_csr_with_key, module)?)?;
    module.add_function(wrap_pyfunction!(pki_sign_csr, module)?)?;
    module.add_function(wrap_pyfunction!(pki_inspect, module)?)?;
    module.add_function(wrap_pyfunction!(pki_check, module)?)?;
    module.add_function(wrap_pyfunction!(pki_fingerprint, module)?)?;
    module.add_function(wrap_pyfunction!(pki_ca_hash, module)?)?;
    module.add_function(wrap_pyfunction!(pki_csr_key_hash, module)?)?;
    module.add_function(wrap_pyfunction!(pki_same_key, module)?)?;
    module.add_function(wrap_pyfunction!(pki_public_key, module)?)?;
    module.add_function(wrap_pyfunction!(pki_jwt_sign, module)?)?;
    module.add_function(wrap_pyfunction!(pki_jwt_verify, module)?)?;
    module.add_function(wrap_pyfunction!(pki_jwks, module)?)?;
    module.add_function(wrap_pyfunction!(pki_random_token, module)?)
}
