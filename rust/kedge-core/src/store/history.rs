// SPDX-License-Identifier: Apache-2.0
//! Changes kept in LMDB by revision, for watches and pages that look back.

use bytes::Bytes;

use crate::store::record::number;
use crate::store::seal::Seal;
use crate::store::{Event, EventKind, Key};
use crate::{Error, Kind, Result};

const PUT: u8 = 1;
const CREATED: u8 = 2;
const PREVIOUS: u8 = 4;
const SEALED: u8 = 8;
/// flags u8, crc32 u32, key length u16, value length u32.
const HEADER: usize = 11;

pub(crate) fn revision_key(revision: u64) -> [u8; 8] {
    revision.to_be_bytes()
}

pub(crate) fn revision_of(key: &[u8]) -> u64 {
    number(key).swap_bytes()
}

pub(crate) fn encode(event: &Event, key: &[u8], sealed_for: Option<&Seal>) -> Result<Vec<u8>> {
    let close = |plain: &[u8]| -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(plain.len() + 28);
        match sealed_for {
            Some(seal) => seal.close(key, plain, &mut out)?,
            None => out.extend_from_slice(plain),
        }
        Ok(out)
    };
    let value = if event.kind == EventKind::Put { close(&event.value)? } else { Vec::new() };
    let previous = event.previous.as_ref().map(|bytes| close(bytes)).transpose()?;
    let mut flags = 0;
    flags |= if event.kind == EventKind::Put { PUT } else { 0 };
    flags |= if event.created { CREATED } else { 0 };
    flags |= if previous.is_some() { PREVIOUS } else { 0 };
    flags |= if sealed_for.is_some() { SEALED } else { 0 };
    let mut bytes = Vec::with_capacity(HEADER + key.len() + value.len() + 64);
    bytes.push(flags);
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&u16::try_from(key.len()).unwrap_or(u16::MAX).to_le_bytes());
    let length = u32::try_from(value.len()).map_err(|_error| {
        Error::new(Kind::TooLarge, format!("object larger than 4 GiB: {}", event.key))
    })?;
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(key);
    bytes.extend_from_slice(&value);
    bytes.extend_from_slice(previous.as_deref().unwrap_or_default());
    let sum = checksum(event.revision, &bytes);
    bytes[1..5].copy_from_slice(&sum.to_le_bytes());
    Ok(bytes)
}

pub(crate) fn decode(revision: u64, bytes: &[u8], seal: Option<&Seal>) -> Result<Event> {
    check(revision, bytes)?;
    let flags = bytes[0];
    let key_end = HEADER + usize::from(u16::from_le_bytes([bytes[5], bytes[6]]));
    let value_end =
        key_end + u32::from_le_bytes([bytes[7], bytes[8], bytes[9], bytes[10]]) as usize;
    let raw_key = bytes.get(HEADER..key_end).ok_or_else(corrupt)?;
    let open = |body: &[u8]| match (flags & SEALED, seal) {
        (0, _) => Ok(Bytes::copy_from_slice(body)),
        (_, Some(seal)) => seal.open(raw_key, body),
        (_, None) => Err(Error::new(
            Kind::Forbidden,
            "sealed history, and the store was opened without its key",
        )),
    };
    let (kind, value) = if flags & PUT == 0 {
        (EventKind::Delete, Bytes::new())
    } else {
        (EventKind::Put, open(bytes.get(key_end..value_end).ok_or_else(corrupt)?)?)
    };
    let previous = (flags & PREVIOUS != 0)
        .then(|| open(bytes.get(value_end..).ok_or_else(corrupt)?))
        .transpose()?;
    Ok(Event {
        kind,
        key: Key::decode(raw_key)?,
        revision,
        value,
        previous,
        created: flags & CREATED != 0,
    })
}

pub(crate) fn check(revision: u64, bytes: &[u8]) -> Result<()> {
    if bytes.len() < HEADER {
        return Err(corrupt());
    }
    let stored = u32::from_le_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]);
    if stored == checksum(revision, bytes) { Ok(()) } else { Err(corrupt()) }
}

fn checksum(revision: u64, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&revision.to_le_bytes());
    hasher.update(&bytes[..1]);
    hasher.update(&bytes[5..]);
    hasher.finalize()
}

fn corrupt() -> Error {
    Error::new(Kind::Corrupt, "a stored change fails its checksum")
}
