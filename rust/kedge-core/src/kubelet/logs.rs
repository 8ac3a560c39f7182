// SPDX-License-Identifier: Apache-2.0
//! A container's log file as a stream of bytes: the end of it, what is new, across rotations.
//!
//! The reader holds one block at a time and reads the next when its client has taken the last, so a
//! slow client costs no memory. Following ends when the container has ended and its file is read.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use serde::Deserialize;
use tokio::sync::Notify;

use super::lines::{Formatter, Selection};
use crate::directory::DirectoryWatch;
use crate::{Error, Kind, Result};

const BLOCK: usize = 64 * 1024;
/// A line beyond this is passed on in parts; runtimes write at most 16 KiB.
const MAX_LINE: usize = 256 * 1024;

/// What to read, as Python has decided.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogRequest {
    /// The file that is written to.
    pub path: PathBuf,
    /// Whose log it is.
    pub container: String,
    /// Whether the container still runs.
    pub is_running: bool,
    /// Whether to wait for more.
    pub follow: bool,
    /// Only so many lines from the end.
    pub tail: Option<u64>,
    /// Stop after so many bytes of output.
    pub limit_bytes: Option<u64>,
    /// Which lines, and how.
    pub selection: Selection,
}

impl LogRequest {
    /// Reads a request.
    pub fn parse(json: &str) -> Result<Self> {
        serde_json::from_str(json)
            .map_err(|error| Error::new(Kind::Invalid, format!("log request: {error}")))
    }
}

/// Whether a container has ended, for those who follow its log.
#[derive(Debug, Default)]
pub(super) struct Ended {
    is_over: AtomicBool,
    told: Notify,
}

impl Ended {
    pub(super) fn tell(&self) {
        self.is_over.store(true, Ordering::Release);
        self.told.notify_waiters();
    }
}

/// Reads one log.
pub(super) struct LogReader {
    path: PathBuf,
    file: Arc<File>,
    position: u64,
    /// The beginning of a line whose end has not been read.
    rest: Vec<u8>,
    formatter: Formatter,
    left: Option<u64>,
    follow: Option<(DirectoryWatch, Arc<Ended>)>,
    is_done: bool,
}

impl LogReader {
    /// Opens the log, at the line that was asked for.
    pub(super) async fn open(request: LogRequest, ended: Arc<Ended>) -> io::Result<Self> {
        let LogRequest { path, follow, tail, limit_bytes, selection, .. } = request;
        let follow = follow.then(|| {
            let directory = path.parent().unwrap_or(&path);
            (DirectoryWatch::new(directory), ended)
        });
        let opened = path.clone();
        let (file, position) = blocking(move || {
            let file = File::open(opened)?;
            let position = tail.map_or(Ok(0), |lines| start_of_tail(&file, lines))?;
            Ok((Arc::new(file), position))
        })
        .await?;
        Ok(Self {
            path,
            file,
            position,
            rest: Vec::new(),
            formatter: Formatter::new(selection),
            left: limit_bytes,
            follow,
            is_done: false,
        })
    }

    /// The next bytes of output; `None` at the end.
    pub(super) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        while !self.is_done {
            // Asked before reading: what was written before the end must be seen.
            let is_over = self.is_over();
            let block = self.read().await?;
            if !block.is_empty() {
                let out = self.format(&block);
                if !out.is_empty() {
                    return Ok(Some(out));
                }
            } else if !self.rotate().await? {
                if is_over {
                    self.is_done = true;
                    let mut out = Vec::new();
                    self.flush(&mut out);
                    let out = self.limited(out);
                    return Ok((!out.is_empty()).then_some(out));
                }
                self.wait().await;
            }
        }
        Ok(None)
    }

    fn is_over(&self) -> bool {
        self.follow.as_ref().is_none_or(|(_, ended)| ended.is_over.load(Ordering::Acquire))
    }

    async fn read(&mut self) -> io::Result<Vec<u8>> {
        let (file, position) = (Arc::clone(&self.file), self.position);
        let block = blocking(move || {
            let mut block = vec![0; BLOCK];
            let count = file.read_at(&mut block, position)?;
            block.truncate(count);
            Ok(block)
        })
        .await?;
        self.position += block.len() as u64;
        Ok(block)
    }

    fn format(&mut self, block: &[u8]) -> Bytes {
        let mut out = Vec::with_capacity(block.len());
        let mut start = 0;
        while let Some(length) = block[start..].iter().position(|byte| *byte == b'\n') {
            let line = &block[start..start + length];
            if self.rest.is_empty() {
                self.formatter.push(line, &mut out);
            } else {
                self.rest.extend_from_slice(line);
                self.flush(&mut out);
            }
            start += length + 1;
        }
        self.rest.extend_from_slice(&block[start..]);
        if self.rest.len() > MAX_LINE {
            self.flush(&mut out);
        }
        self.limited(out)
    }

    fn flush(&mut self, out: &mut Vec<u8>) {
        let rest = std::mem::take(&mut self.rest);
        if !rest.is_empty() {
            self.formatter.push(&rest, out);
        }
    }

    fn limited(&mut self, mut out: Vec<u8>) -> Bytes {
        if let Some(left) = &mut self.left {
            let allowed = usize::try_from(*left).unwrap_or(usize::MAX).min(out.len());
            out.truncate(allowed);
            *left -= allowed as u64;
            self.is_done |= *left == 0;
        }
        out.into()
    }

    /// Goes on in the file that has taken this one's place, if there is one.
    async fn rotate(&mut self) -> io::Result<bool> {
        if self.follow.is_none() {
            return Ok(false);
        }
        let (path, file, position) = (self.path.clone(), Arc::clone(&self.file), self.position);
        let next = blocking(move || {
            let Ok(newest) = File::open(path) else { return Ok(None) };
            let (now, before) = (newest.metadata()?, file.metadata()?);
            let is_other = (now.dev(), now.ino()) != (before.dev(), before.ino());
            // The old file may have grown since it was read; it is read to its end first.
            Ok((is_other && before.len() <= position).then_some(newest))
        })
        .await?;
        let Some(newest) = next else { return Ok(false) };
        self.file = Arc::new(newest);
        self.position = 0;
        Ok(true)
    }

    async fn wait(&self) {
        let Some((watch, ended)) = &self.follow else { return };
        let told = ended.told.notified();
        tokio::pin!(told);
        // From here on an end is not missed.
        told.as_mut().enable();
        if ended.is_over.load(Ordering::Acquire) {
            return;
        }
        tokio::select! {
            () = watch.changed() => {}
            () = told => {}
        }
    }
}

/// Where the last `lines` lines begin.
fn start_of_tail(file: &File, lines: u64) -> io::Result<u64> {
    let end = file.metadata()?.len();
    if lines == 0 {
        return Ok(end);
    }
    let (mut position, mut found) = (end, 0);
    let mut block = vec![0; BLOCK];
    while position > 0 {
        let length = position.min(BLOCK as u64);
        position -= length;
        // A block is far smaller than an address space.
        let block = &mut block[..usize::try_from(length).unwrap_or(BLOCK)];
        file.read_exact_at(block, position)?;
        for (at, byte) in block.iter().enumerate().rev() {
            let here = position + at as u64 + 1;
            if *byte == b'\n' && here < end {
                found += 1;
                if found == lines {
                    return Ok(here);
                }
            }
        }
    }
    Ok(0)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
