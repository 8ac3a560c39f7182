// SPDX-License-Identifier: Apache-2.0
//! Reading: one object, lists with selectors, pages that stay at one revision.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;

use crate::store::db::{Reading, from_heed};
use crate::store::history::{self, revision_key, revision_of};
use crate::store::open::Shared;
use crate::store::record::Record;
use crate::store::{Key, ListQuery, Listed, Object, Page, Selector};
use crate::{Error, Kind, Result};

/// An object of an older revision: what it was, or that it was not there.
type Undo = HashMap<Vec<u8>, Option<Bytes>>;

impl Shared {
    pub(crate) fn get(&self, key: &Key) -> Result<Option<Object>> {
        let raw_key = key.encode()?;
        let reading = self.lmdb.read()?;
        let found =
            self.lmdb.objects.get(&reading.txn, &raw_key).map_err(|error| from_heed(&error))?;
        let record = found.map(|bytes| Record::decode(&raw_key, bytes, self.seal())).transpose()?;
        Ok(record.map(|record| Object { value: record.value, revision: record.modified }))
    }

    pub(crate) fn list(&self, query: &ListQuery) -> Result<Page> {
        let selector = Selector::parse(&query.labels, &query.fields)?;
        let (at_revision, after) = match query.continue_token.as_str() {
            "" => (query.at_revision, Vec::new()),
            token => parse_token(token)?,
        };
        let reading = self.lmdb.read()?;
        let now = self.lmdb.number(&reading.txn, "revision")?;
        if at_revision > now {
            let message = format!("revision {at_revision} is ahead of the newest, {now}");
            return Err(Error::new(Kind::Invalid, message));
        }
        let revision = if at_revision == 0 { now } else { at_revision };
        let undo = self.undo(&reading, revision, now)?;
        let mut found = match selector.exact_field("spec.nodeName").filter(|node| !node.is_empty())
        {
            Some(node) if undo.is_empty() => {
                self.by_node(&reading, query, node, &after, &selector)?
            }
            _ => self.scan(&reading, query, &after, &selector, &undo)?,
        };
        let mut page = Page { revision, ..Page::default() };
        if query.limit > 0 && found.len() > query.limit {
            found.truncate(query.limit);
            if let Some(last) = found.last() {
                let last = last.key.encode()?;
                page.continue_token = token(revision, &last);
                if selector.is_empty() {
                    page.remaining = Some(self.remaining(&reading, query, &last, &undo)?);
                }
            }
        }
        page.items = found;
        Ok(page)
    }

    /// The newest revision in the file, which the ring may be about to learn of.
    pub(crate) fn committed(&self) -> Result<u64> {
        let reading = self.lmdb.read()?;
        self.lmdb.number(&reading.txn, "revision")
    }

    /// Objects that an owner index entry points to.
    pub(crate) fn owned(&self, uid: &str) -> Result<Vec<Listed>> {
        let mut prefix = uid.as_bytes().to_vec();
        prefix.push(0);
        let reading = self.lmdb.read()?;
        let entries =
            self.lmdb.by_owner.prefix_iter(&reading.txn, &prefix).map_err(|e| from_heed(&e))?;
        let mut found = Vec::new();
        for entry in entries {
            let (entry, _) = entry.map_err(|error| from_heed(&error))?;
            found.extend(self.at(&reading, &entry[prefix.len()..])?);
        }
        Ok(found)
    }

    fn at(&self, reading: &Reading<'_>, raw_key: &[u8]) -> Result<Option<Listed>> {
        let found =
            self.lmdb.objects.get(&reading.txn, raw_key).map_err(|error| from_heed(&error))?;
        found.map(|bytes| self.listed(raw_key, bytes)).transpose()
    }

    fn listed(&self, raw_key: &[u8], bytes: &[u8]) -> Result<Listed> {
        let record = Record::decode(raw_key, bytes, self.seal())?;
        Ok(Listed { key: Key::decode(raw_key)?, value: record.value, revision: record.modified })
    }

    fn by_node(
        &self,
        reading: &Reading<'_>,
        query: &ListQuery,
        node: &str,
        after: &[u8],
        selector: &Selector,
    ) -> Result<Vec<Listed>> {
        let mut prefix = node.as_bytes().to_vec();
        prefix.push(0);
        let start = prefix.len();
        prefix.extend(Key::prefix(&query.group, &query.resource, &query.namespace));
        let entries =
            self.lmdb.by_node.prefix_iter(&reading.txn, &prefix).map_err(|e| from_heed(&e))?;
        let mut found = Vec::new();
        for entry in entries {
            let (entry, _) = entry.map_err(|error| from_heed(&error))?;
            let raw_key = &entry[start..];
            if raw_key <= after {
                continue;
            }
            if let Some(item) = self.at(reading, raw_key)?
                && selector.matches(&item.key, &item.value)
            {
                found.push(item);
                if query.limit > 0 && found.len() > query.limit {
                    break;
                }
            }
        }
        Ok(found)
    }

    fn scan(
        &self,
        reading: &Reading<'_>,
        query: &ListQuery,
        after: &[u8],
        selector: &Selector,
        undo: &Undo,
    ) -> Result<Vec<Listed>> {
        let prefix = Key::prefix(&query.group, &query.resource, &query.namespace);
        let mut past: BTreeMap<Vec<u8>, Bytes> = BTreeMap::new();
        for (raw_key, value) in undo {
            if raw_key.starts_with(&prefix)
                && raw_key.as_slice() > after
                && let Some(value) = value
            {
                past.insert(raw_key.clone(), value.clone());
            }
        }
        let end = end_of(&prefix);
        let start = if after.is_empty() {
            Bound::Included(prefix.as_slice())
        } else {
            Bound::Excluded(after)
        };
        let range = (start, Bound::Excluded(end.as_slice()));
        let entries =
            self.lmdb.objects.range(&reading.txn, &range).map_err(|error| from_heed(&error))?;
        let mut found = Vec::new();
        let full = |found: &Vec<Listed>| query.limit > 0 && found.len() > query.limit;
        let take = |item: Listed, found: &mut Vec<Listed>| {
            if selector.is_empty() || selector.matches(&item.key, &item.value) {
                found.push(item);
            }
        };
        for entry in entries {
            let (raw_key, bytes) = entry.map_err(|error| from_heed(&error))?;
            while let Some(first) =
                past.first_entry().filter(|first| first.key().as_slice() < raw_key)
            {
                let (old_key, value) = first.remove_entry();
                take(past_item(&old_key, value)?, &mut found);
            }
            if undo.contains_key(raw_key) {
                if let Some(value) = past.remove(raw_key) {
                    take(past_item(raw_key, value)?, &mut found);
                }
            } else {
                take(self.listed(raw_key, bytes)?, &mut found);
            }
            if full(&found) {
                return Ok(found);
            }
        }
        for (old_key, value) in past {
            take(past_item(&old_key, value)?, &mut found);
        }
        Ok(found)
    }

    /// How many objects come after a page that ends with `last`.
    fn remaining(
        &self,
        reading: &Reading<'_>,
        query: &ListQuery,
        last: &[u8],
        undo: &Undo,
    ) -> Result<u64> {
        let prefix = Key::prefix(&query.group, &query.resource, &query.namespace);
        let end = end_of(&prefix);
        let range = (Bound::Excluded(last), Bound::Excluded(end.as_slice()));
        let entries =
            self.lmdb.objects.range(&reading.txn, &range).map_err(|error| from_heed(&error))?;
        let mut count = undo
            .iter()
            .filter(|(raw_key, value)| {
                value.is_some() && raw_key.starts_with(&prefix) && raw_key.as_slice() > last
            })
            .count() as u64;
        for entry in entries {
            let (raw_key, _) = entry.map_err(|error| from_heed(&error))?;
            count += u64::from(!undo.contains_key(raw_key));
        }
        Ok(count)
    }

    /// What changed after `revision`, as it was before; `Gone` when history does not reach back.
    fn undo(&self, reading: &Reading<'_>, revision: u64, now: u64) -> Result<Undo> {
        let mut undo = Undo::new();
        if revision == now {
            return Ok(undo);
        }
        let oldest = self.lmdb.number(&reading.txn, "oldest")?;
        if revision < oldest {
            return Err(gone(revision, oldest));
        }
        let start = revision_key(revision);
        let range = (Bound::Excluded(start.as_slice()), Bound::Unbounded);
        let entries =
            self.lmdb.history.range(&reading.txn, &range).map_err(|error| from_heed(&error))?;
        for entry in entries {
            let (key, bytes) = entry.map_err(|error| from_heed(&error))?;
            let event = history::decode(revision_of(key), bytes, self.seal())?;
            undo.entry(event.key.encode()?).or_insert(event.previous);
        }
        Ok(undo)
    }
}

pub(crate) fn gone(revision: u64, oldest: u64) -> Error {
    Error::new(Kind::Gone, format!("too old resource version: {revision} ({oldest})"))
}

fn past_item(raw_key: &[u8], value: Bytes) -> Result<Listed> {
    // The revision of an object as it was is in its JSON; callers of older pages use that.
    Ok(Listed { key: Key::decode(raw_key)?, value, revision: 0 })
}

fn token(revision: u64, last: &[u8]) -> String {
    let mut bytes = revision.to_be_bytes().to_vec();
    bytes.extend_from_slice(last);
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// The token by which a list goes on after its revision is no longer kept: at the same place, as of now.
pub(crate) fn token_for_now(old: &str) -> Result<String> {
    let (_, last) = parse_token(old)?;
    Ok(token(0, &last))
}

/// The first key that does not begin with a prefix, which ends with a zero byte.
fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

fn parse_token(token: &str) -> Result<(u64, Vec<u8>)> {
    let invalid = || Error::new(Kind::Invalid, "invalid continue token: continue key is not valid");
    if token.len() > 1024 {
        return Err(invalid());
    }
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).map_err(|_error| invalid())?;
    let (revision, last) = bytes.split_first_chunk::<8>().ok_or_else(invalid)?;
    Key::decode(last).map_err(|_error| invalid())?;
    Ok((u64::from_be_bytes(*revision), last.to_vec()))
}
