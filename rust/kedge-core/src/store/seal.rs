// SPDX-License-Identifier: Apache-2.0
//! Sealing at rest: AES-256-GCM with a random nonce; the object's key is authenticated with it.

use bytes::Bytes;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};

use crate::{Error, Kind, Result};

/// A node's sealing key.
pub(crate) struct Seal {
    key: LessSafeKey,
    random: SystemRandom,
}

impl Seal {
    pub(crate) fn new(key: &[u8; 32]) -> Result<Self> {
        let key = UnboundKey::new(&AES_256_GCM, key)
            .map_err(|_error| Error::new(Kind::Internal, "the sealing key has a wrong length"))?;
        Ok(Self { key: LessSafeKey::new(key), random: SystemRandom::new() })
    }

    /// Appends nonce, ciphertext and tag.
    pub(crate) fn close(&self, name: &[u8], plain: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let failed = |_| Error::new(Kind::Internal, "sealing failed");
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(failed)?;
        out.extend_from_slice(&nonce);
        let start = out.len();
        out.extend_from_slice(plain);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(name), &mut out[start..])
            .map_err(failed)?;
        out.extend_from_slice(tag.as_ref());
        Ok(())
    }

    /// The plain bytes.
    pub(crate) fn open(&self, name: &[u8], sealed: &[u8]) -> Result<Bytes> {
        let wrong =
            || Error::new(Kind::Forbidden, "a sealed object does not open: wrong sealing key");
        if sealed.len() < NONCE_LEN {
            return Err(wrong());
        }
        let (nonce, body) = sealed.split_at(NONCE_LEN);
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_error| wrong())?;
        let mut buffer = body.to_vec();
        let plain = self
            .key
            .open_in_place(nonce, Aad::from(name), &mut buffer)
            .map_err(|_error| wrong())?;
        Ok(Bytes::copy_from_slice(plain))
    }
}
