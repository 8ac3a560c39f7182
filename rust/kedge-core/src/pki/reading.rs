// SPDX-License-Identifier: Apache-2.0
//! Taking certificates and requests apart, and checking them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ring::digest::{SHA256, digest};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::X509Name;

use super::{jwt, pem, refused};
use crate::Result;

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Details {
    /// The subject's CN; empty when there is none.
    pub common_name: String,
    /// The subject's O values.
    pub organizations: Vec<String>,
    /// Seconds since 1970 from which it holds.
    pub not_before: i64,
    /// Seconds since 1970 after which it does not.
    pub not_after: i64,
    /// In hexadecimal.
    pub serial: String,
    /// `DNS:…`, `IP:…`, `URI:…`.
    pub sans: Vec<String>,
    /// Whether it may sign others.
    pub is_ca: bool,
}

/// What the first certificate of a PEM text says.
pub fn inspect(certificate: &str) -> Result<Details> {
    inspect_der(&pem::certificate(certificate)?)
}

/// What a DER certificate says.
pub fn inspect_der(certificate: &[u8]) -> Result<Details> {
    let parsed = parse(certificate)?;
    let sans = parsed
        .subject_alternative_name()
        .map_err(|error| refused(format!("certificate: unreadable alternative names: {error}")))?
        .map(|names| names.value.general_names.iter().filter_map(alternative_name).collect())
        .unwrap_or_default();
    Ok(Details {
        common_name: text_of(parsed.subject().iter_common_name()).next().unwrap_or_default(),
        organizations: organizations(parsed.subject()),
        not_before: parsed.validity().not_before.timestamp(),
        not_after: parsed.validity().not_after.timestamp(),
        serial: parsed.serial.to_str_radix(16),
        sans,
        is_ca: parsed.is_ca(),
    })
}

/// Whether a certificate holds at `now` (seconds since 1970) and an authority signed it. The error
/// says which of these failed.
pub fn check(certificate: &str, ca_cert: &str, now: i64) -> Result<()> {
    let der = pem::certificate(certificate)?;
    let parsed = parse(&der)?;
    let ca_der = pem::certificate(ca_cert)?;
    let authority = parse(&ca_der)?;
    if !authority.is_ca() {
        return Err(refused("authority: the certificate may not sign others"));
    }
    if parsed.verify_signature(Some(authority.public_key())).is_err() {
        return Err(refused(format!(
            "certificate of {}: signed by another authority than {}",
            subject(&parsed),
            ca_hash(ca_cert)?
        )));
    }
    holds(&authority, "authority", now)?;
    holds(&parsed, "certificate", now)
}

/// `sha256:` and the hexadecimal digest of the whole certificate.
pub fn fingerprint(certificate: &str) -> Result<String> {
    Ok(hash(&pem::certificate(certificate)?))
}

/// `sha256:` and the digest of a certificate's public key: what kubeadm calls a discovery hash.
pub fn ca_hash(certificate: &str) -> Result<String> {
    key_hash_der(&pem::certificate(certificate)?)
}

/// The same for a DER certificate.
pub fn key_hash_der(certificate: &[u8]) -> Result<String> {
    Ok(hash(parse(certificate)?.public_key().raw))
}

/// The same for the key of a request, whose signature must hold.
pub fn csr_key_hash(csr: &str) -> Result<String> {
    Ok(hash(&request_key(csr)?))
}

/// Whether a private key belongs to a certificate.
pub fn same_key(certificate: &str, key: &str) -> Result<bool> {
    let der = pem::certificate(certificate)?;
    let wanted = jwt::SigningKey::from_pem(key)?;
    Ok(parse(&der)?.public_key().subject_public_key.as_ref() == wanted.point())
}

/// The public half (`PUBLIC KEY` PEM) of a private key.
pub fn public_key(key: &str) -> Result<String> {
    Ok(pem::encode("PUBLIC KEY", &jwt::SigningKey::from_pem(key)?.public_key_info()))
}

/// The public key information (DER) of a request whose signature holds.
pub(super) fn request_key(csr: &str) -> Result<Vec<u8>> {
    let der = pem::request(csr)?;
    let (rest, parsed) = X509CertificationRequest::from_der(&der)
        .map_err(|error| refused(format!("certificate request: malformed: {error}")))?;
    if !rest.is_empty() {
        return Err(refused(format!("certificate request: {} bytes too many", rest.len())));
    }
    if parsed.verify_signature().is_err() {
        return Err(refused("certificate request: its signature does not hold"));
    }
    Ok(parsed.certification_request_info.subject_pki.raw.to_vec())
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>> {
    let (rest, parsed) = X509Certificate::from_der(der)
        .map_err(|error| refused(format!("certificate: malformed: {error}")))?;
    if rest.is_empty() {
        Ok(parsed)
    } else {
        Err(refused(format!("certificate: {} bytes too many", rest.len())))
    }
}

fn holds(certificate: &X509Certificate<'_>, what: &str, now: i64) -> Result<()> {
    let validity = certificate.validity();
    if now < validity.not_before.timestamp() {
        return Err(refused(format!(
            "{what} of {}: not yet valid: it holds from {}, the clock says {}",
            subject(certificate),
            moment(validity.not_before.timestamp()),
            moment(now)
        )));
    }
    if now > validity.not_after.timestamp() {
        return Err(refused(format!(
            "{what} of {}: expired at {}, the clock says {}",
            subject(certificate),
            moment(validity.not_after.timestamp()),
            moment(now)
        )));
    }
    Ok(())
}

/// A moment in RFC 3339, for messages.
fn moment(seconds: i64) -> String {
    time::OffsetDateTime::from_unix_timestamp(seconds)
        .ok()
        .and_then(|at| at.format(&time::format_description::well_known::Rfc3339).ok())
        .unwrap_or_else(|| seconds.to_string())
}

fn subject(certificate: &X509Certificate<'_>) -> String {
    text_of(certificate.subject().iter_common_name()).next().unwrap_or_else(|| "no name".to_owned())
}

fn organizations(name: &X509Name<'_>) -> Vec<String> {
    text_of(name.iter_organization()).collect()
}

fn text_of<'a>(
    values: impl Iterator<Item = &'a x509_parser::x509::AttributeTypeAndValue<'a>>,
) -> impl Iterator<Item = String> {
    values.filter_map(|value| value.as_str().ok().map(str::to_owned))
}

fn alternative_name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(text) => Some(format!("DNS:{text}")),
        GeneralName::URI(text) => Some(format!("URI:{text}")),
        GeneralName::IPAddress(bytes) => address(bytes).map(|address| format!("IP:{address}")),
        _ => None,
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(|four| IpAddr::V4(Ipv4Addr::from(four)))
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(|all| IpAddr::V6(Ipv6Addr::from(all))))
        .ok()
}

fn hash(bytes: &[u8]) -> String {
    let digest = digest(&SHA256, bytes);
    let hex = digest.as_ref().iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let hex = hex.filter_map(|nibble| char::from_digit(u32::from(nibble), 16));
    "sha256:".chars().chain(hex).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Issue, create_ca, issue};
    use super::*;

    fn leaf(ca: &str, ca_key: &str) -> String {
        let wanted = Issue { common_name: "leaf", days: 1, client: true, ..Issue::default() };
        issue(ca, ca_key, &wanted).unwrap().0
    }

    #[test]
    fn a_check_tells_expired_from_not_yet_valid() {
        let (ca, key) = create_ca("kedge-ca", 9).unwrap();
        let certificate = leaf(&ca, &key);
        let details = inspect(&certificate).unwrap();
        check(&certificate, &ca, details.not_after).unwrap();
        let late = check(&certificate, &ca, details.not_after + 1).unwrap_err();
        assert!(late.message.contains("expired at 2"), "{late}");
        let early = check(&certificate, &ca, details.not_before - 9).unwrap_err();
        assert!(early.message.contains("not yet valid"), "{early}");
    }

    #[test]
    fn a_check_names_the_authority_that_was_wanted() {
        let ((ca, key), (other, _)) = (create_ca("a", 9).unwrap(), create_ca("a", 9).unwrap());
        let certificate = leaf(&ca, &key);
        let now = inspect(&certificate).unwrap().not_before + 1;
        let error = check(&certificate, &other, now).unwrap_err();
        assert!(error.message.contains(&ca_hash(&other).unwrap()), "{error}");
        let error = check(&certificate, &certificate, now).unwrap_err();
        assert!(error.message.contains("may not sign"), "{error}");
    }

    #[test]
    fn serials_and_fingerprints_differ_between_certificates_of_one_key() {
        let (ca, key) = create_ca("kedge-ca", 9).unwrap();
        let (one, other) = (leaf(&ca, &key), leaf(&ca, &key));
        assert_ne!(inspect(&one).unwrap().serial, inspect(&other).unwrap().serial);
        assert_ne!(fingerprint(&one).unwrap(), fingerprint(&other).unwrap());
    }

    #[test]
    fn bytes_that_are_no_certificate_are_refused() {
        let noise = pem::encode("CERTIFICATE", &[0x30, 0x82, 0xff, 0xff, 1, 2, 3]);
        assert!(inspect(&noise).unwrap_err().message.contains("malformed"));
    }
}
