// SPDX-License-Identifier: Apache-2.0
//! How an object lies in LMDB: a header with its revisions and a checksum over key and body.

use bytes::Bytes;

use crate::store::Key;
use crate::store::seal::Seal;
use crate::{Error, Kind, Result};

/// flags u8, created u64, modified u64, crc32 u32; all little-endian.
const HEADER: usize = 21;
const SEALED: u8 = 1;

/// A stored object.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) created: u64,
    pub(crate) modified: u64,
    pub(crate) value: Bytes,
}

impl Record {
    pub(crate) fn encode(&self, key: &[u8], sealed_for: Option<&Seal>) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(HEADER + self.value.len() + 32);
        bytes.push(if sealed_for.is_some() { SEALED } else { 0 });
        bytes.extend_from_slice(&self.created.to_le_bytes());
        bytes.extend_from_slice(&self.modified.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        match sealed_for {
            Some(seal) => seal.close(key, &self.value, &mut bytes)?,
            None => bytes.extend_from_slice(&self.value),
        }
        let sum = checksum(key, &bytes);
        bytes[17..HEADER].copy_from_slice(&sum.to_le_bytes());
        Ok(bytes)
    }

    pub(crate) fn decode(key: &[u8], bytes: &[u8], seal: Option<&Seal>) -> Result<Self> {
        let (created, modified) = Self::check(key, bytes)?;
        let body = &bytes[HEADER..];
        let value = if bytes[0] & SEALED == 0 {
            Bytes::copy_from_slice(body)
        } else {
            let seal = seal.ok_or_else(|| {
                let name = Key::decode(key).map_or_else(|_| "?".to_owned(), |key| key.to_string());
                Error::new(
                    Kind::Forbidden,
                    format!("sealed, and the store was opened without its key: {name}"),
                )
            })?;
            seal.open(key, body)?
        };
        Ok(Self { created, modified, value })
    }

    /// The revisions, once the checksum holds.
    pub(crate) fn check(key: &[u8], bytes: &[u8]) -> Result<(u64, u64)> {
        let corrupt = || Error::new(Kind::Corrupt, "a stored object fails its checksum");
        if bytes.len() < HEADER {
            return Err(corrupt());
        }
        let stored = u32::from_le_bytes(bytes[17..HEADER].try_into().map_err(|_| corrupt())?);
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
    hasher.update(&bytes[HEADER..]);
    hasher.finalize()
}
