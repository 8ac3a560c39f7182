// SPDX-License-Identifier: Apache-2.0
//! Making keys, authorities, certificates and requests.

use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use time::{Duration, OffsetDateTime};

use super::{MAX_NAME_BYTES, pem, random, reading, refused};
use crate::{Error, Kind, Result};

/// Certificates hold from this long before they are made, so that a clock a little behind accepts them.
const BACKDATE: Duration = Duration::minutes(5);
const MAX_ALTERNATIVE_NAMES: usize = 64;
const MAX_DAYS: u32 = 36_525;

/// What a certificate says about whom, for how long and for what.
#[derive(Clone, Debug, Default)]
pub struct Issue<'a> {
    /// The subject's CN.
    pub common_name: &'a str,
    /// The subject's O, at most one; Kubernetes reads it as a group.
    pub organizations: &'a [String],
    /// DNS names that a server answers to.
    pub dns_names: &'a [String],
    /// Addresses that a server answers at.
    pub ip_addresses: &'a [String],
    /// What else it is for, such as the object that it stands for.
    pub uris: &'a [String],
    /// Days from now on; certificates are dated back by five minutes.
    pub days: u32,
    /// May serve.
    pub server: bool,
    /// May ask.
    pub client: bool,
}

/// A new private key (PKCS#8 PEM).
pub fn new_key() -> Result<String> {
    Ok(key_pair()?.serialize_pem())
}

/// A new certificate authority: its certificate and its key.
pub fn create_ca(common_name: &str, days: u32) -> Result<(String, String)> {
    let key = key_pair()?;
    let wanted = Issue { common_name, days, ..Issue::default() };
    let mut params = parameters(&wanted)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    let certificate = params.self_signed(&key).map_err(|error| failed("authority", &error))?;
    Ok((pem::encode("CERTIFICATE", certificate.der()), key.serialize_pem()))
}

/// A new key and a certificate for it, signed by an authority: certificate, key.
pub fn issue(ca_cert: &str, ca_key: &str, wanted: &Issue<'_>) -> Result<(String, String)> {
    let key = key_pair()?;
    let certificate = sign(ca_cert, ca_key, wanted, &key)?;
    Ok((certificate, key.serialize_pem()))
}

/// A request for a certificate with a new key: request, key.
pub fn make_csr(common_name: &str, organizations: &[String]) -> Result<(String, String)> {
    let key = key_pair()?;
    let csr = request(common_name, organizations, &key)?;
    Ok((csr, key.serialize_pem()))
}

/// A request for a certificate with a key that exists already.
pub fn make_csr_with_key(common_name: &str, organizations: &[String], key: &str) -> Result<String> {
    request(common_name, organizations, &read_key(key)?)
}

/// A certificate for the key of a request. The request proves that its sender holds the key and
/// gives nothing else: every name in the certificate is the caller's.
pub fn sign_csr(ca_cert: &str, ca_key: &str, csr: &str, wanted: &Issue<'_>) -> Result<String> {
    let der = reading::request_key(csr)?;
    let key = rcgen::SubjectPublicKeyInfo::from_der(&der)
        .map_err(|error| refused(format!("certificate request: unusable key: {error}")))?;
    sign(ca_cert, ca_key, wanted, &key)
}

fn sign(
    ca_cert: &str,
    ca_key: &str,
    wanted: &Issue<'_>,
    key: &impl PublicKeyData,
) -> Result<String> {
    let signer = read_key(ca_key)?;
    if !reading::same_key(ca_cert, ca_key)? {
        return Err(refused("authority: the private key is not the one of the certificate"));
    }
    let authority = pem::certificate(ca_cert)?;
    let issuer = Issuer::from_ca_cert_der(&authority, signer)
        .map_err(|error| refused(format!("authority: unusable certificate: {error}")))?;
    let mut params = parameters(wanted)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    if wanted.server {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    if wanted.client {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
    }
    let certificate =
        params.signed_by(key, &issuer).map_err(|error| failed("certificate", &error))?;
    Ok(pem::encode("CERTIFICATE", certificate.der()))
}

fn parameters(wanted: &Issue<'_>) -> Result<CertificateParams> {
    if wanted.days == 0 || wanted.days > MAX_DAYS {
        return Err(invalid(format!("days: wanted 1 to {MAX_DAYS}, got: {}", wanted.days)));
    }
    let mut params = CertificateParams::default();
    let now = now();
    params.not_before = now - BACKDATE;
    params.not_after = now + Duration::days(i64::from(wanted.days));
    params.distinguished_name = subject(wanted.common_name, wanted.organizations)?;
    params.subject_alt_names = alternative_names(wanted)?;
    params.serial_number = Some(serial()?);
    Ok(params)
}

fn subject(common_name: &str, organizations: &[String]) -> Result<DistinguishedName> {
    let mut name = DistinguishedName::new();
    limited("common name", common_name)?;
    match organizations {
        [] => {}
        [organization] => {
            limited("organization", organization)?;
            name.push(DnType::OrganizationName, organization.as_str());
        }
        // rcgen keeps one value of each type, and nobody here needs two groups in a certificate.
        several => {
            let count = several.len();
            return Err(invalid(format!("organizations: wanted at most 1, got: {count}")));
        }
    }
    name.push(DnType::CommonName, common_name);
    Ok(name)
}

fn alternative_names(wanted: &Issue<'_>) -> Result<Vec<SanType>> {
    let count = wanted.dns_names.len() + wanted.ip_addresses.len() + wanted.uris.len();
    if count > MAX_ALTERNATIVE_NAMES {
        return Err(invalid(format!(
            "alternative names: wanted at most {MAX_ALTERNATIVE_NAMES}, got: {count}"
        )));
    }
    let mut names = Vec::with_capacity(count);
    for name in wanted.dns_names {
        limited("DNS name", name)?;
        let name = name.as_str().try_into().map_err(|_error: rcgen::Error| {
            invalid(format!("DNS name: wanted ASCII, got: {name}"))
        })?;
        names.push(SanType::DnsName(name));
    }
    for address in wanted.ip_addresses {
        let parsed: IpAddr = address.parse().map_err(|_error: std::net::AddrParseError| {
            invalid(format!("IP address: wanted an IPv4 or IPv6 address, got: {address}"))
        })?;
        names.push(SanType::IpAddress(parsed));
    }
    for uri in wanted.uris {
        limited("URI", uri)?;
        let uri = uri
            .as_str()
            .try_into()
            .map_err(|_error: rcgen::Error| invalid(format!("URI: wanted ASCII, got: {uri}")))?;
        names.push(SanType::URI(uri));
    }
    Ok(names)
}

fn request(common_name: &str, organizations: &[String], key: &KeyPair) -> Result<String> {
    let mut params = CertificateParams::default();
    params.distinguished_name = subject(common_name, organizations)?;
    let csr =
        params.serialize_request(key).map_err(|error| failed("certificate request", &error))?;
    Ok(pem::encode("CERTIFICATE REQUEST", csr.der()))
}

fn limited(what: &str, value: &str) -> Result<()> {
    if value.is_empty() || value.len() > MAX_NAME_BYTES {
        return Err(invalid(format!(
            "{what}: wanted 1 to {MAX_NAME_BYTES} bytes, got: {}",
            value.len()
        )));
    }
    Ok(())
}

fn serial() -> Result<SerialNumber> {
    let mut bytes = random(16)?;
    bytes[0] = (bytes[0] & 0x7f) | 0x40; // positive, and never shorter than sixteen bytes
    Ok(SerialNumber::from_slice(&bytes))
}

fn key_pair() -> Result<KeyPair> {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(|error| failed("key", &error))
}

fn read_key(text: &str) -> Result<KeyPair> {
    let der = pem::private_key(text)?;
    KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_ECDSA_P256_SHA256).map_err(|_error| {
        refused(
            "private key: wanted an ECDSA P-256 key in PKCS#8, got another kind or damaged bytes",
        )
    })
}

fn now() -> OffsetDateTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn failed(what: &str, error: &rcgen::Error) -> Error {
    Error::new(Kind::Internal, format!("{what}: could not be made: {error}"))
}

fn invalid(message: String) -> Error {
    Error::new(Kind::Invalid, message)
}

#[cfg(test)]
mod tests {
    use super::super::{check, inspect};
    use super::*;

    fn authority() -> (String, String) {
        create_ca("kedge-ca", 10).unwrap()
    }

    fn client(common_name: &str) -> Issue<'_> {
        Issue { common_name, days: 1, client: true, ..Issue::default() }
    }

    #[test]
    fn a_server_certificate_carries_the_names_asked_for() {
        let (ca, ca_key) = authority();
        let (certificate, _key) = issue(
            &ca,
            &ca_key,
            &Issue {
                common_name: "hub",
                dns_names: &["hub.example".to_owned()],
                ip_addresses: &["127.0.0.1".to_owned(), "::1".to_owned()],
                days: 2,
                server: true,
                ..Issue::default()
            },
        )
        .unwrap();
        let details = inspect(&certificate).unwrap();
        assert_eq!(details.common_name, "hub");
        assert_eq!(details.sans, ["DNS:hub.example", "IP:127.0.0.1", "IP:::1"]);
        assert!(!details.is_ca);
        check(&certificate, &ca, details.not_before + 1).unwrap();
    }

    #[test]
    fn a_signed_request_has_the_callers_names_and_not_its_own() {
        let (ca, ca_key) = authority();
        let (csr, key) = make_csr("system:masters", &["system:masters".to_owned()]).unwrap();
        let groups = ["system:nodes".to_owned()];
        let uris = ["urn:uuid:1-2".to_owned()];
        let wanted = Issue { organizations: &groups, uris: &uris, ..client("system:node:a") };
        let certificate = sign_csr(&ca, &ca_key, &csr, &wanted).unwrap();
        let details = inspect(&certificate).unwrap();
        assert_eq!(details.common_name, "system:node:a");
        assert_eq!(details.sans, ["URI:urn:uuid:1-2"]);
        assert_eq!(details.organizations, groups);
        assert!(super::super::same_key(&certificate, &key).unwrap());
    }

    #[test]
    fn a_request_whose_signature_does_not_hold_is_refused() {
        let (ca, ca_key) = authority();
        let (csr, _key) = make_csr("a", &[]).unwrap();
        let mut der = pem::request(&csr).unwrap().to_vec();
        let last = der.len() - 1;
        der[last] ^= 1;
        let damaged = pem::encode("CERTIFICATE REQUEST", &der);
        let error = sign_csr(&ca, &ca_key, &damaged, &client("a")).unwrap_err();
        assert_eq!(error.kind, Kind::Certificate);
        assert!(error.message.contains("signature"), "{error}");
    }

    #[test]
    fn an_authority_with_the_key_of_another_is_refused() {
        let ((ca, _), (_, other_key)) = (authority(), authority());
        let (csr, _key) = make_csr("a", &[]).unwrap();
        let error = sign_csr(&ca, &other_key, &csr, &client("a")).unwrap_err();
        assert!(error.message.contains("not the one of the certificate"), "{error}");
    }

    #[test]
    fn malformed_pem_is_refused_with_what_was_wanted() {
        let (csr, _key) = make_csr("a", &[]).unwrap();
        for (text, says) in [
            ("", "wanted a PEM block"),
            ("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n", "cut short"),
            (
                "-----BEGIN CERTIFICATE REQUEST-----\n!!!!\n-----END CERTIFICATE REQUEST-----\n",
                "not base64",
            ),
            (&csr.replace("CERTIFICATE REQUEST", "CERTIFICATE"), "wanted a PEM block"),
            (&"A".repeat(super::super::MAX_PEM_BYTES + 1), "larger than"),
        ] {
            let error = super::super::csr_key_hash(text).unwrap_err();
            assert!(error.message.contains(says), "{error}");
        }
    }

    #[test]
    fn out_of_range_wishes_are_refused() {
        assert_eq!(create_ca("a", 0).unwrap_err().kind, Kind::Invalid);
        assert_eq!(create_ca("", 1).unwrap_err().kind, Kind::Invalid);
        assert_eq!(make_csr(&"a".repeat(400), &[]).unwrap_err().kind, Kind::Invalid);
    }

    #[test]
    fn a_key_that_exists_already_is_asked_for_again() {
        let (first, key) = make_csr("a", &[]).unwrap();
        let again = make_csr_with_key("a", &[], &key).unwrap();
        let hash = super::super::csr_key_hash;
        assert_eq!(hash(&first).unwrap(), hash(&again).unwrap());
    }
}
