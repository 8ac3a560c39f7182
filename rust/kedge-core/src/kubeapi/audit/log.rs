// SPDX-License-Identifier: Apache-2.0
//! The file: lines in the order in which they come, by a thread of its own; full files are set aside.
//!
//! Who writes waits while the queue is full: a request is answered when its lines are on their way, and none is
//! dropped for being one too many. Files are named as upstream names them: `audit-2026-01-02T03-04-05.678.log`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use serde::Deserialize;
use time::OffsetDateTime;
use tokio::sync::mpsc::{self, Receiver, Sender};

use crate::{Error, Kind, Result};

/// Lines that wait for the disk.
const QUEUE: usize = 1_000;
const MODE: u32 = 0o600;

/// Where to, and how much is kept.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::kubeapi) struct Settings {
    path: PathBuf,
    /// A file is set aside before it would become larger.
    max_bytes: u64,
    /// Files set aside are removed when they are older; 0 is never.
    max_age_days: u64,
    /// So many of them are kept; 0 is all.
    max_backups: usize,
}

/// How long the last lines may take when the server ends.
const LAST: Duration = Duration::from_secs(5);

/// The way to the file.
pub(super) struct Log {
    lines: Option<Sender<Vec<u8>>>,
    /// Closed when the thread has ended.
    ended: Mutex<std::sync::mpsc::Receiver<()>>,
}

impl Log {
    /// Opens the file, to add to it.
    pub(super) fn open(settings: Settings) -> Result<Self> {
        let file = Rotated::open(settings)?;
        let (lines, queue) = mpsc::channel(QUEUE);
        let (ending, ended) = std::sync::mpsc::channel();
        let run = move || {
            write_all(file, queue);
            drop(ending);
        };
        std::thread::Builder::new().name("audit".to_owned()).spawn(run)?;
        Ok(Self { lines: Some(lines), ended: Mutex::new(ended) })
    }

    /// Writes a line, with its end.
    pub(super) async fn write(&self, line: Vec<u8>) {
        if let Some(lines) = &self.lines {
            // The other end goes last, with this.
            let _ = lines.send(line).await;
        }
    }

    /// The same from where nothing can be waited for.
    pub(super) fn write_later(&self, line: Vec<u8>) {
        let Some(lines) = self.lines.clone() else { return };
        if let Err(mpsc::error::TrySendError::Full(line)) = lines.try_send(line)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move { lines.send(line).await });
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.lines = None;
        // Nobody sends anything: it ends with the thread, or by the clock.
        let _ = self.ended.get_mut().recv_timeout(LAST);
    }
}

fn write_all(mut file: Rotated, mut queue: Receiver<Vec<u8>>) {
    let mut failing = false;
    while let Some(line) = queue.blocking_recv() {
        let mut done = file.write(&line);
        while let Ok(line) = queue.try_recv() {
            done = done.and(file.write(&line));
        }
        done = done.and(file.flush());
        match done {
            Ok(()) => failing = false,
            Err(_) if failing => {}
            Err(error) => {
                failing = true;
                log::error!("the audit log cannot be written: {error}");
            }
        }
    }
}

struct Rotated {
    settings: Settings,
    file: BufWriter<File>,
    size: u64,
}

impl Rotated {
    fn open(settings: Settings) -> Result<Self> {
        let (file, size) = opened(&settings.path).map_err(|error| {
            let Error { message, .. } = error.into();
            Error::new(Kind::Invalid, format!("{}: {message}", settings.path.display()))
        })?;
        Ok(Self { settings, file, size })
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let size = line.len() as u64;
        if self.size > 0 && self.size + size > self.settings.max_bytes {
            self.rotate()?;
        }
        self.size += size;
        self.file.write_all(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.file.flush()?;
        let path = &self.settings.path;
        fs::rename(path, path.with_file_name(aside(path, OffsetDateTime::now_utc())))?;
        (self.file, self.size) = opened(path)?;
        self.prune()
    }

    /// Removes files that were set aside, the oldest first.
    fn prune(&self) -> io::Result<()> {
        let Settings { path, max_age_days, max_backups, .. } = &self.settings;
        let mut found: Vec<PathBuf> = fs::read_dir(parent(path))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|entry| is_aside(path, entry))
            .collect();
        found.sort();
        let surplus = if *max_backups == 0 { 0 } else { found.len().saturating_sub(*max_backups) };
        let age = Duration::from_secs(max_age_days * 86_400);
        let is_old = |entry: &Path| {
            let changed = fs::metadata(entry).and_then(|meta| meta.modified());
            changed.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|old| old > age))
        };
        for (index, entry) in found.iter().enumerate() {
            if index < surplus || (*max_age_days > 0 && is_old(entry)) {
                fs::remove_file(entry)?;
            }
        }
        Ok(())
    }
}

fn opened(path: &Path) -> io::Result<(BufWriter<File>, u64)> {
    let file = OpenOptions::new().create(true).append(true).mode(MODE).open(path)?;
    let size = file.metadata()?.len();
    Ok((BufWriter::new(file), size))
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The two halves of a file's name, around the time.
fn halves(path: &Path) -> (String, String) {
    let text =
        |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let ending = path
        .extension()
        .map_or_else(String::new, |ending| format!(".{}", ending.to_string_lossy()));
    (format!("{}-", text(path.file_stem())), ending)
}

fn aside(path: &Path, at: OffsetDateTime) -> String {
    let (begin, end) = halves(path);
    let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
    let (hour, minute, second) = (at.hour(), at.minute(), at.second());
    let milli = at.millisecond();
    format!(
        "{begin}{year:04}-{month:02}-{day:02}T{hour:02}-{minute:02}-{second:02}.{milli:03}{end}"
    )
}

fn is_aside(path: &Path, entry: &Path) -> bool {
    let (begin, end) = halves(path);
    let name = entry.file_name().unwrap_or_default().to_string_lossy();
    let middle = name.strip_prefix(&begin).and_then(|rest| rest.strip_suffix(&end));
    middle.is_some_and(|middle| {
        middle.len() == "2026-01-02T03-04-05.678".len()
            && middle.bytes().all(|byte| byte.is_ascii_digit() || b"-T.".contains(&byte))
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn settings(path: &Path, max_backups: usize) -> Settings {
        Settings { path: path.to_owned(), max_bytes: 10, max_age_days: 0, max_backups }
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_full_file_is_set_aside_and_the_oldest_of_them_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.log");
        for old in ["audit-2020-01-02T03-04-05.678.log", "audit-2020-01-02T03-04-05.679.log"] {
            fs::write(directory.path().join(old), "old").unwrap();
        }
        fs::write(directory.path().join("audit-notes.log"), "not ours").unwrap();
        let mut file = Rotated::open(settings(&path, 2)).unwrap();
        file.write(b"12345678\n").unwrap();
        file.write(b"next\n").unwrap();
        file.flush().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "next\n");
        let found = names(directory.path());
        assert_eq!(found.len(), 4, "{found:?}");
        assert_eq!(found[0], "audit-2020-01-02T03-04-05.679.log");
        assert_eq!(found[2], "audit-notes.log");
        let full = fs::read_to_string(directory.path().join(&found[1])).unwrap();
        assert_eq!(full, "12345678\n");
    }

    #[test]
    fn files_that_are_too_old_go() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.log");
        let old = directory.path().join("audit-2020-01-02T03-04-05.678.log");
        fs::write(&old, "old").unwrap();
        let ago = SystemTime::now() - Duration::from_secs(2 * 86_400);
        File::options().write(true).open(&old).unwrap().set_modified(ago).unwrap();
        let kept = Settings { max_age_days: 3, ..settings(&path, 0) };
        Rotated::open(kept.clone()).unwrap().prune().unwrap();
        assert!(old.exists());
        Rotated::open(Settings { max_age_days: 1, ..kept }).unwrap().prune().unwrap();
        assert!(!old.exists());
    }

    #[tokio::test]
    async fn what_was_written_is_there_when_the_log_is_gone_and_is_added_to() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.log");
        let wide = Settings { max_bytes: 1 << 20, ..settings(&path, 0) };
        for line in ["one\n", "two\n"] {
            let log = Log::open(wide.clone()).unwrap();
            log.write(line.into()).await;
            log.write_later(line.into());
            drop(log);
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\none\ntwo\ntwo\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_named() {
        let path = Path::new("/nowhere/audit.log");
        let error = Log::open(settings(path, 0)).err().unwrap();
        assert!(error.message.starts_with("/nowhere/audit.log: "), "{error}");
    }
}
