// SPDX-License-Identifier: Apache-2.0
//! Reads a store's file without mapping it, and says whether LMDB can be let at it.
//!
//! LMDB trusts its file: a cut one ends the process with SIGBUS, a scribbled one with worse. So before
//! it is mapped, every page that the newest meta page reaches is read here with its bounds checked
//! (layout: LMDB's mdb.c, data format 1, 64 bit): page numbers, node offsets, key order, overflow
//! runs, the free list, and the checksum of every record. Nothing is assumed of the rest.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::store::history;
use crate::store::record::{Record, number};
use crate::{Error, Kind, Result};

const MAGIC: u32 = 0xBEEF_C0DE;
const VERSION: u32 = 1;
const PAGE_HEADER: usize = 16;
const BRANCH: u16 = 1;
const LEAF: u16 = 2;
const OVERFLOW: u16 = 4;
const META: u16 = 8;
const BIG_DATA: u16 = 1;
const SUB_DATA: u16 = 2;
const NO_PAGE: u64 = u64::MAX;
const MAX_DEPTH: u16 = 32;
/// Bytes of an `MDB_db`: pad u32, flags u16, depth u16, branch, leaf, overflow pages, entries, root u64.
const DB_BYTES: usize = 48;

/// `Corrupt` unless the file is absent, empty or sound.
pub(crate) fn check(path: &Path) -> Result<()> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let length = file.metadata()?.len();
    if length == 0 {
        return Err(corrupt("the data file is empty"));
    }
    let mut reader =
        Reader { file, page_size: 4096, pages: 0, last: 0, seen: HashSet::new(), free: Vec::new() };
    reader.run(length)
}

struct Reader {
    file: File,
    page_size: usize,
    /// Whole pages in the file.
    pages: u64,
    /// The last page in use, as the meta page says.
    last: u64,
    seen: HashSet<u64>,
    free: Vec<u64>,
}

#[derive(Clone, Copy)]
struct Tree {
    depth: u16,
    entries: u64,
    root: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Free,
    Main,
    Objects,
    History,
    Index,
    Numbers,
}

impl Reader {
    fn run(&mut self, length: u64) -> Result<()> {
        let mut head = [0; 4096];
        self.file.read_exact_at(&mut head, 0).map_err(|_error| corrupt("shorter than one page"))?;
        let size = u32::from_le_bytes([head[16 + 24], head[16 + 25], head[16 + 26], head[16 + 27]])
            as usize;
        if size.is_power_of_two() && (512..=65536).contains(&size) {
            self.page_size = size;
        }
        self.pages = length / self.page_size as u64;
        if self.pages < 2 {
            return Err(corrupt("shorter than its two meta pages"));
        }
        let metas: Vec<_> = (0..2).filter_map(|page| self.meta(page).ok()).collect();
        // A crash while a meta page is written leaves the other; one must be whole, the newest counts.
        let (_, last, free, main) = metas
            .iter()
            .copied()
            .max_by_key(|(txnid, ..)| *txnid)
            .filter(|_| metas.len() == 2)
            .ok_or_else(|| corrupt("a meta page is damaged"))?;
        if last >= self.pages {
            return Err(corrupt("the file was cut: its last pages are missing"));
        }
        self.last = last;
        self.tree(free, What::Free)?;
        self.tree(main, What::Main)?;
        for page in std::mem::take(&mut self.free) {
            if page < 2 || page > self.last || !self.seen.insert(page) {
                return Err(corrupt("the free list names a page that is in use"));
            }
        }
        Ok(())
    }

    fn meta(&self, page: u64) -> Result<(u64, u64, Tree, Tree)> {
        let bytes = self.page(page)?;
        let flags = half(&bytes, 10);
        let body = &bytes[PAGE_HEADER..];
        if flags & META == 0 || word(body, 0) != MAGIC || word(body, 4) != VERSION {
            return Err(corrupt("a meta page is damaged"));
        }
        // magic, version, address u64, mapsize u64, two trees, last page u64, transaction u64.
        let (free, main) = (tree(&body[24..])?, tree(&body[24 + DB_BYTES..])?);
        let tail = &body[24 + 2 * DB_BYTES..];
        Ok((number(&tail[8..16]), number(&tail[..8]), free, main))
    }

    fn page(&self, page: u64) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.page_size];
        self.read(page, &mut bytes)?;
        Ok(bytes)
    }

    fn read(&self, page: u64, into: &mut [u8]) -> Result<()> {
        self.file
            .read_exact_at(into, page * self.page_size as u64)
            .map_err(|_error| corrupt("a page is missing"))
    }

    fn tree(&mut self, tree: Tree, what: What) -> Result<()> {
        if tree.root == NO_PAGE {
            return if tree.entries == 0 {
                Ok(())
            } else {
                Err(corrupt("a tree without a root has entries"))
            };
        }
        let mut last_key = Vec::new();
        let mut count = 0;
        self.walk(tree.root, tree.depth, what, &mut last_key, &mut count)?;
        if count == tree.entries {
            Ok(())
        } else {
            Err(corrupt("a tree has another count than its record says"))
        }
    }

    fn walk(
        &mut self,
        page: u64,
        depth: u16,
        what: What,
        last_key: &mut Vec<u8>,
        count: &mut u64,
    ) -> Result<()> {
        if depth == 0 || depth > MAX_DEPTH {
            return Err(corrupt("a tree is deeper than its record says"));
        }
        if page < 2 || page > self.last || !self.seen.insert(page) {
            return Err(corrupt("a page is reached twice, or lies outside the file"));
        }
        let bytes = self.page(page)?;
        let (flags, lower, upper) =
            (half(&bytes, 10), half(&bytes, 12) as usize, half(&bytes, 14) as usize);
        let wanted = if depth == 1 { LEAF } else { BRANCH };
        let bounds =
            lower >= PAGE_HEADER && lower <= upper && upper <= self.page_size && lower % 2 == 0;
        if number(&bytes[..8]) != page || flags & 0x7f != wanted || !bounds {
            return Err(corrupt("a page header is damaged"));
        }
        let count_here = (lower - PAGE_HEADER) / 2;
        if count_here == 0 || (wanted == BRANCH && count_here < 2) {
            return Err(corrupt("a page of a tree is empty"));
        }
        for index in 0..count_here {
            let offset = half(&bytes, PAGE_HEADER + 2 * index) as usize;
            if offset < upper || offset + 8 > self.page_size {
                return Err(corrupt("a node lies outside its page"));
            }
            let node = &bytes[offset..];
            let key_length = half(node, 6) as usize;
            let key = node
                .get(8..8 + key_length)
                .ok_or_else(|| corrupt("a key lies outside its page"))?;
            if wanted == BRANCH {
                let (low, high, top) = (half(node, 0), half(node, 2), half(node, 4));
                let child = u64::from(low) | u64::from(high) << 16 | u64::from(top) << 32;
                self.walk(child, depth - 1, what, last_key, count)?;
            } else {
                let key = key.to_vec();
                if *count > 0 && !ordered(what, last_key, &key) {
                    return Err(corrupt("keys are out of order"));
                }
                self.leaf(node, &key, what)?;
                *last_key = key;
                *count += 1;
            }
        }
        Ok(())
    }

    fn leaf(&mut self, node: &[u8], key: &[u8], what: What) -> Result<()> {
        let size = u32::from(half(node, 0)) as usize | (half(node, 2) as usize) << 16;
        let flags = half(node, 4);
        let start = 8 + key.len();
        let value = if flags & BIG_DATA != 0 {
            let page = number(
                node.get(start..start + 8)
                    .ok_or_else(|| corrupt("a value lies outside its page"))?,
            );
            self.overflow(page, size)?
        } else {
            node.get(start..start + size)
                .ok_or_else(|| corrupt("a value lies outside its page"))?
                .to_vec()
        };
        let is_tree = flags & SUB_DATA != 0;
        if is_tree != (what == What::Main) || flags & !(BIG_DATA | SUB_DATA) != 0 {
            return Err(corrupt("a node has flags that kedge never writes"));
        }
        match what {
            What::Free => self.free_list(key, &value),
            What::Main => {
                let inner = match key {
                    b"meta" => What::Numbers,
                    b"objects" => What::Objects,
                    b"history" => What::History,
                    b"by_node" | b"by_owner" => What::Index,
                    _ => return Err(corrupt("a database that kedge never made")),
                };
                self.tree(tree(&value)?, inner)
            }
            What::Objects => Record::check(key, &value).map(|_| ()),
            What::History => history::check(history::revision_of(key), &value),
            What::Index if value == crc32fast::hash(key).to_le_bytes() => Ok(()),
            What::Numbers if value.len() == 8 => Ok(()),
            What::Index | What::Numbers => Err(corrupt("an index entry fails its checksum")),
        }
    }

    fn free_list(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let mut numbers = value.chunks_exact(8).map(number);
        let length = numbers.next().ok_or_else(|| corrupt("a free list is damaged"))?;
        if key.len() != 8
            || !value.len().is_multiple_of(8)
            || length != (value.len() / 8 - 1) as u64
        {
            // LMDB may reserve a longer record than it fills.
            if length > (value.len() / 8).saturating_sub(1) as u64 {
                return Err(corrupt("a free list is damaged"));
            }
        }
        self.free.extend(numbers.take(usize::try_from(length).unwrap_or(0)));
        Ok(())
    }

    fn overflow(&mut self, page: u64, size: usize) -> Result<Vec<u8>> {
        let run = (PAGE_HEADER + size).div_ceil(self.page_size) as u64;
        if page < 2 || page + run - 1 > self.last {
            return Err(corrupt("a large value lies outside the file"));
        }
        for number in page..page + run {
            if !self.seen.insert(number) {
                return Err(corrupt("a page is reached twice"));
            }
        }
        let mut bytes = vec![0; PAGE_HEADER + size];
        self.read(page, &mut bytes)?;
        let pages = u64::from(word(&bytes, 12));
        if number(&bytes[..8]) != page
            || half(&bytes, 10) & 0x7f != OVERFLOW
            || pages < run
            || page + pages - 1 > self.last
        {
            return Err(corrupt("the header of a large value is damaged"));
        }
        for number in page + run..page + pages {
            if !self.seen.insert(number) {
                return Err(corrupt("a page is reached twice"));
            }
        }
        bytes.drain(..PAGE_HEADER);
        Ok(bytes)
    }
}

/// The free list's keys are native integers, all others compare as bytes.
fn ordered(what: What, before: &[u8], after: &[u8]) -> bool {
    if what == What::Free { number(before) < number(after) } else { before < after }
}

fn tree(bytes: &[u8]) -> Result<Tree> {
    let bytes =
        bytes.get(..DB_BYTES).ok_or_else(|| corrupt("the record of a tree is too short"))?;
    Ok(Tree {
        depth: half(bytes, 6),
        entries: number(&bytes[32..40]),
        root: number(&bytes[40..48]),
    })
}

fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn corrupt(what: &str) -> Error {
    Error::new(Kind::Corrupt, format!("the store is damaged: {what}"))
}
