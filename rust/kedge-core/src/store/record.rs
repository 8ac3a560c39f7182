// SPDX-License-Identifier: Apache-2.0
//! How an object lies in LMDB: a header with its revisions and a checksum, what it is indexed by, its JSON.

use bytes::Bytes;

use crate::store::Key;
use crate::store::seal::Seal;
use crate::{Error, Kind, Result};

/// flags u8, created u64, modified u64, crc32 u32, length of the links u16; all little-endian.
const HEADER: usize = 23;
const SUM: std::ops::Range<usize> = 17..21;
const SEALED: u8 = 1;

/// A stored object.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) created: u64,
    pub(crate) modified: u64,
    pub(crate) links: Links,
    pub(crate) value: Bytes,
}

/// What an object is indexed by, kept beside it so that a change need not read the old JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Links {
    /// The node it is bound to, or empty.
    pub(crate) node: String,
    /// The uids of its owners, sorted.
    pub(crate) owners: Vec<String>,
}

impl Links {
    fn encode(&self) -> Vec<u8> {
        if self.node.is_empty() && self.owners.is_empty() {
            return Vec::new();
        }
        let mut parts = vec![self.node.as_str()];
        parts.extend(self.owners.iter().map(String::as_str));
        parts.join("\0").into_bytes()
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(bytes).map_err(|_error| corrupt())?;
        let mut parts = text.split('\0').map(str::to_owned);
        let node = parts.next().unwrap_or_default();
        Ok(Self { node, owners: parts.collect() })
    }
}

impl Record {
    pub(crate) fn encode(&self, key: &[u8], sealed_for: Option<&Seal>) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(HEADER + self.value.len() + 32);
        bytes.push(if sealed_for.is_some() { SEALED } else { 0 });
        bytes.extend_from_slice(&self.created.to_le_bytes());
        bytes.extend_from_slice(&self.modified.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        let links = self.links.encode();
        let length = u16::try_from(links.len())
            .map_err(|_error| Error::new(Kind::TooLarge, "node name and owners over 64 KiB"))?;
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&links);
        match sealed_for {
            Some(seal) => seal.close(key, &self.value, &mut bytes)?,
            None => bytes.extend_from_slice(&self.value),
        }
        let sum = checksum(key, &bytes);
        bytes[SUM].copy_from_slice(&sum.to_le_bytes());
        Ok(bytes)
    }

    /// Reads the first layout, which had no links; the record, and whether it was sealed.
    pub(crate) fn decode_first(
        key: &[u8],
        bytes: &[u8],
        seal: Option<&Seal>,
    ) -> Result<(Self, bool)> {
        let (created, modified) = Self::check(key, bytes)?;
        let sealed = bytes[0] & SEALED != 0;
        let value = body(key, sealed, &bytes[SUM.end..], seal)?;
        Ok((Self { created, modified, links: Links::default(), value }, sealed))
    }

    pub(crate) fn decode(key: &[u8], bytes: &[u8], seal: Option<&Seal>) -> Result<Self> {
        let (created, modified) = Self::check(key, bytes)?;
        let links_end = HEADER + usize::from(u16::from_le_bytes([bytes[21], bytes[22]]));
        let links = Links::decode(bytes.get(HEADER..links_end).ok_or_else(corrupt)?)?;
        let value = body(key, bytes[0] & SEALED != 0, &bytes[links_end..], seal)?;
        Ok(Self { created, modified, links, value })
    }

    /// The revisions, once the checksum holds.
    pub(crate) fn check(key: &[u8], bytes: &[u8]) -> Result<(u64, u64)> {
        if bytes.len() < HEADER {
            return Err(corrupt());
        }
        let stored = u32::from_le_bytes(bytes[SUM].try_into().map_err(|_error| corrupt())?);
        if stored != checksum(key, bytes) {
            return Err(corrupt());
        }
        Ok((number(&bytes[1..9]), number(&bytes[9..17])))
    }
}

pub(crate) fn number(bytes: &[u8]) -> u64 {
    let mut buffer = [0; 8];
    buffer[..bytes.len().min(8)].copy_from_slice(&bytes[..bytes.len().min(8)]);
    u64::from_le_bytes(buffer)
}

fn checksum(key: &[u8], bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(&bytes[..17]);
    hasher.update(&bytes[SUM.end..]);
    hasher.finalize()
}

fn body(key: &[u8], sealed: bool, bytes: &[u8], seal: Option<&Seal>) -> Result<Bytes> {
    if !sealed {
        return Ok(Bytes::copy_from_slice(bytes));
    }
    let seal = seal.ok_or_else(|| {
        let name = Key::decode(key).map_or_else(|_| "?".to_owned(), |key| key.to_string());
        Error::new(
            Kind::Forbidden,
            format!("sealed, and the store was opened without its key: {name}"),
        )
    })?;
    seal.open(key, bytes)
}

/// A record as the first layout had it, for the tests of migration.
#[cfg(test)]
pub(crate) fn encode_first(record: &Record, key: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend_from_slice(&record.created.to_le_bytes());
    bytes.extend_from_slice(&record.modified.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&record.value);
    let sum = checksum(key, &bytes);
    bytes[SUM].copy_from_slice(&sum.to_le_bytes());
    bytes
}

fn corrupt() -> Error {
    Error::new(Kind::Corrupt, "a stored object fails its checksum")
}
