// SPDX-License-Identifier: Apache-2.0
//! Compression of objects against the dictionary and against versions the other end holds.
//!
//! The dictionary is plain text (`dictionary.json`): what objects of Kubernetes have in common. A
//! value is compressed with the dictionary followed by its bases as zstd's dictionary, which turns
//! an update into little more than what changed. The receiver finds each base by key and hash; a
//! hash that does not fit is a missing base, never a wrong object. zstd contexts are large (a few
//! hundred kilobytes), so a process shares a handful.

use std::sync::OnceLock;

use bytes::Bytes;
use parking_lot::Mutex;
use zstd::zstd_safe::{CCtx, CDict, DCtx, DDict, compress_bound};

use crate::wire::envelope::Packed;
use crate::wire::{Limits, WireError};

/// What objects of Kubernetes have in common; likeliest last.
pub const DICTIONARY: &[u8] = include_bytes!("dictionary.json");

const LEVEL: i32 = 5;
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Below this the frame's own bytes outweigh what compression saves.
const SMALLEST: usize = 48;
const POOLED: usize = 2;

/// The first eight bytes of SHA-256: names a version of an object.
pub fn hash(bytes: &[u8]) -> u64 {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().take(8).fold(0, |hash, byte| hash << 8 | u64::from(*byte))
}

/// The hash of the dictionary, compared at the start of a link.
pub fn dictionary_hash() -> u64 {
    static HASH: OnceLock<u64> = OnceLock::new();
    *HASH.get_or_init(|| hash(DICTIONARY))
}

/// How to compress on one link.
#[derive(Clone, Copy, Debug, Default)]
pub struct Packer {
    /// Whether the other end has the same dictionary.
    pub shared_dictionary: bool,
}

impl Packer {
    /// Compresses `data` against `bases`, or leaves it when that would not help.
    pub fn pack(self, data: &[u8], bases: &[&[u8]]) -> Packed {
        let plain = || Packed { raw: 0, data: Bytes::copy_from_slice(data) };
        if data.len() < SMALLEST && bases.is_empty() {
            return plain();
        }
        let mut out = Vec::with_capacity(compress_bound(data.len()));
        let mut context = COMPRESSORS.lock().pop().unwrap_or_else(CCtx::create);
        let result = if bases.is_empty() && self.shared_dictionary {
            context.compress_using_cdict(&mut out, data, compress_dictionary())
        } else {
            context.compress_using_dict(&mut out, data, &self.history(bases), LEVEL)
        };
        give_back(&COMPRESSORS, context);
        // The only failure of a compression into enough room is of memory: the bytes go as they are.
        if result.is_err() || out.len() >= data.len() + MAGIC.len() {
            return plain();
        }
        match u32::try_from(data.len()) {
            Ok(raw) => Packed { raw, data: Bytes::from(out).slice(MAGIC.len()..) },
            Err(_) => plain(),
        }
    }

    /// The bytes that `packed` stands for.
    pub fn unpack(
        self,
        packed: &Packed,
        bases: &[&[u8]],
        limits: &Limits,
    ) -> Result<Bytes, WireError> {
        let raw = packed.raw as usize;
        if raw == 0 {
            return Ok(packed.data.clone());
        }
        if raw > limits.raw {
            return Err(WireError::MessageTooLarge { stream: 1, got: raw, limit: limits.raw });
        }
        let mut frame = Vec::with_capacity(MAGIC.len() + packed.data.len());
        frame.extend_from_slice(&MAGIC);
        frame.extend_from_slice(&packed.data);
        let mut out = Vec::with_capacity(raw);
        let mut context = DECOMPRESSORS.lock().pop().unwrap_or_else(DCtx::create);
        let result = if bases.is_empty() && self.shared_dictionary {
            context.decompress_using_ddict(&mut out, &frame, decompress_dictionary())
        } else {
            context.decompress_using_dict(&mut out, &frame, &self.history(bases))
        };
        give_back(&DECOMPRESSORS, context);
        if result.is_err() || out.len() != raw {
            return Err(WireError::Malformed("compressed data"));
        }
        Ok(out.into())
    }

    fn history(self, bases: &[&[u8]]) -> Vec<u8> {
        let dictionary = if self.shared_dictionary { DICTIONARY } else { &[] };
        let mut all =
            Vec::with_capacity(dictionary.len() + bases.iter().map(|b| b.len()).sum::<usize>());
        all.extend_from_slice(dictionary);
        for base in bases {
            all.extend_from_slice(base);
        }
        all
    }
}

static COMPRESSORS: Mutex<Vec<CCtx<'static>>> = Mutex::new(Vec::new());
static DECOMPRESSORS: Mutex<Vec<DCtx<'static>>> = Mutex::new(Vec::new());

fn give_back<T>(pool: &Mutex<Vec<T>>, context: T) {
    let mut pool = pool.lock();
    if pool.len() < POOLED {
        pool.push(context);
    }
}

fn compress_dictionary() -> &'static CDict<'static> {
    static DICT: OnceLock<CDict<'static>> = OnceLock::new();
    DICT.get_or_init(|| CDict::create(DICTIONARY, LEVEL))
}

fn decompress_dictionary() -> &'static DDict<'static> {
    static DICT: OnceLock<DDict<'static>> = OnceLock::new();
    DICT.get_or_init(|| DDict::create(DICTIONARY))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARED: Packer = Packer { shared_dictionary: true };

    fn pod(name: &str, image: &str) -> Vec<u8> {
        format!(
            "{{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{{\"name\":\"{name}\",\"namespace\":\"default\"}},\
             \"spec\":{{\"containers\":[{{\"name\":\"c\",\"image\":\"{image}\"}}],\"restartPolicy\":\"Always\"}}}}"
        )
        .into_bytes()
    }

    #[test]
    fn what_is_packed_unpacks_to_the_same_bytes() {
        let old = pod("web-0", "nginx:1.24");
        for packer in [SHARED, Packer::default()] {
            for data in
                [b"".to_vec(), b"short".to_vec(), pod("web-0", "nginx:1.25"), vec![0; 100_000]]
            {
                for bases in [vec![], vec![old.as_slice()], vec![&b"x"[..], &old]] {
                    let packed = packer.pack(&data, &bases);
                    assert_eq!(packer.unpack(&packed, &bases, &Limits::HUB).unwrap(), data);
                }
            }
        }
    }

    #[test]
    fn an_update_is_little_more_than_what_changed() {
        let (old, new) = (pod("web-0", "nginx:1.24"), pod("web-0", "nginx:1.25"));
        assert!(SHARED.pack(&new, &[&old]).data.len() < 40);
        assert!(SHARED.pack(&new, &[]).data.len() < new.len() / 2);
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_memory_is_taken() {
        let packed = Packed { raw: u32::MAX, data: Bytes::from_static(b"x") };
        let refused = SHARED.unpack(&packed, &[], &Limits::HUB);
        assert!(matches!(refused, Err(WireError::MessageTooLarge { .. })));
    }

    #[test]
    fn a_frame_that_holds_more_or_less_than_it_says_is_malformed() {
        let packed = SHARED.pack(&vec![0; 1000], &[]);
        for raw in [1, 999, 1001] {
            let wrong = Packed { raw, data: packed.data.clone() };
            let refused = SHARED.unpack(&wrong, &[], &Limits::HUB);
            assert_eq!(refused, Err(WireError::Malformed("compressed data")));
        }
    }

    #[test]
    fn a_frame_cut_or_changed_anywhere_is_never_a_panic() {
        let data = pod("web-0", "nginx:1.25");
        let packed = SHARED.pack(&data, &[]);
        for at in 0..packed.data.len() {
            let cut = Packed { raw: packed.raw, data: packed.data.slice(..at) };
            assert!(SHARED.unpack(&cut, &[], &Limits::HUB).is_err());
            let mut changed = packed.data.to_vec();
            changed[at] ^= 0x55;
            let _ =
                SHARED.unpack(&Packed { raw: packed.raw, data: changed.into() }, &[], &Limits::HUB);
        }
    }
}
