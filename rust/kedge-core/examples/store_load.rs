// SPDX-License-Identifier: Apache-2.0
//! Writes and reads a store as fast as it goes, and prints what it measured as one JSON object.
//!
//! `store_load DIRECTORY SECONDS`: 1024 writers that each wait for their own durable commit of a 1 KB
//! object, then 2 readers of random objects out of 10,000. `bench/store.py` runs it.

use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use kedge_core::store::{Expect, Key, Mode, Op, Options, Store};
use tokio::time::Instant;

const WRITERS: u64 = 1024;
const READERS: u64 = 2;
const OBJECTS: u64 = 10_000;

fn main() -> kedge_core::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (directory, seconds) =
        (arguments.next(), arguments.next().and_then(|text| text.parse().ok()));
    let (Some(directory), Some(seconds)) = (directory, seconds) else {
        return Err(kedge_core::Error::new(kedge_core::Kind::Invalid, "wanted: DIRECTORY SECONDS"));
    };
    let time = Duration::from_secs_f64(seconds);
    let options = Options { mode: Mode::Primary, ..Options::default() };
    let store = Store::open(Path::new(&directory), options)?;
    for start in (0..OBJECTS).step_by(500) {
        store.commit((start..start + 500).map(put).collect())?;
    }
    let writes = run(WRITERS, time, |number| store.commit(vec![put(number % OBJECTS)]).map(|_| ()));
    let reads = run(READERS, time, |number| {
        store.get(&key(number.wrapping_mul(7919) % OBJECTS)).map(|_| ())
    });
    store.close()?;
    let mut out = std::io::stdout();
    writeln!(out, "{{\"writes_per_second\": {writes:.0}, \"reads_per_second\": {reads:.0}}}")?;
    Ok(())
}

/// Calls per second of `call` from `threads` threads.
fn run(threads: u64, time: Duration, call: impl Fn(u64) -> kedge_core::Result<()> + Sync) -> f64 {
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (stop, done, call) = (&stop, &done, &call);
            scope.spawn(move || {
                let mut number = thread * 1_000_003;
                while !stop.load(Ordering::Relaxed) {
                    call(number).expect("a benchmark's store works");
                    number += 1;
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        while begin.elapsed() < time {
            std::thread::park_timeout(time.saturating_sub(begin.elapsed()));
        }
        stop.store(true, Ordering::Relaxed);
    });
    #[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    let count = done.load(Ordering::Relaxed) as f64;
    count / begin.elapsed().as_secs_f64()
}

fn key(number: u64) -> Key {
    Key::new("", "pods", "default", &format!("pod-{number:05}"))
}

fn put(number: u64) -> Op {
    let filler = "x".repeat(800);
    let value = format!(
        r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"pod-{number:05}","namespace":"default","uid":"{number}","labels":{{"app":"web"}}}},"spec":{{"nodeName":"node-{}"}},"status":{{"message":"{filler}"}}}}"#,
        number % 100
    );
    Op::Put { key: key(number), value: value.into(), expect: Expect::Any }
}
