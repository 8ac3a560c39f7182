// SPDX-License-Identifier: Apache-2.0
//! The one tokio runtime of a process, owned by the role that built it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::{Error, Kind, Result};

/// A handle to the runtime; clones share it. `close` ends it and every task on it.
#[derive(Clone)]
pub struct Runtime {
    inner: Arc<Mutex<Option<tokio::runtime::Runtime>>>,
    handle: tokio::runtime::Handle,
}

impl Runtime {
    /// A runtime with `workers` threads of small stacks.
    pub fn new(workers: usize) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(workers.max(1))
            .max_blocking_threads(4)
            .thread_stack_size(512 * 1024)
            .thread_name("kedge")
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        Ok(Self { inner: Arc::new(Mutex::new(Some(runtime))), handle })
    }

    /// Runs `future` as a task that lives until it ends or the runtime closes.
    pub fn spawn<F>(&self, future: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.handle.spawn(future)
    }

    /// Waits for `future` on the calling thread, which must not be a worker of this runtime.
    pub fn block_on<F: Future>(&self, future: F) -> Result<F::Output> {
        if self.is_closed() {
            return Err(Error::new(Kind::Closed, "the runtime is closed"));
        }
        Ok(self.handle.block_on(future))
    }

    /// Whether `close` was called.
    pub fn is_closed(&self) -> bool {
        self.inner.lock().is_none()
    }

    /// Ends all tasks, waiting at most two seconds; calling it again does nothing.
    pub fn close(&self) {
        let runtime = self.inner.lock().take();
        if let Some(runtime) = runtime {
            runtime.shutdown_timeout(Duration::from_secs(2));
        }
    }
}
