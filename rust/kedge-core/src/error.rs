// SPDX-License-Identifier: Apache-2.0
//! The one error that leaves this crate: a kind that Python maps to a class, and a message.
//!
//! Each domain keeps its own small `thiserror` enum and converts into this at its edge.

/// What went wrong, as far as a caller may act on it. One Python class each (`kedge-py/src/error.rs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A defect of ours.
    Internal,
    /// The object, history or name is not there.
    NotFound,
    /// Somebody changed it meanwhile: a compare-and-swap that lost.
    Conflict,
    /// A create of something that exists.
    AlreadyExists,
    /// The revision asked for is older than the history kept.
    Gone,
    /// Input that breaks a rule; the message names what, what it was and what was wanted.
    Invalid,
    /// Known, but not allowed.
    Forbidden,
    /// Not known.
    Unauthorized,
    /// Over a limit of size or count.
    TooLarge,
    /// The disk or a quota is full.
    Full,
    /// Stored bytes fail their checks.
    Corrupt,
    /// The link or the peer is away; trying again is sensible.
    Disconnected,
    /// The peer refused; trying the same again is not sensible.
    Rejected,
    /// A certificate or token does not hold.
    Certificate,
    /// No answer within the time allowed.
    Timeout,
    /// The container runtime refused or failed.
    Runtime,
    /// The handle was closed.
    Closed,
}

/// An error with its kind; the message starts in lower case and ends without a period.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What a caller may act on.
    pub kind: Kind,
    /// For a person.
    pub message: String,
}

impl Error {
    /// An error of `kind` that says `message`.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => Kind::NotFound,
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Kind::Full,
            std::io::ErrorKind::TimedOut => Kind::Timeout,
            std::io::ErrorKind::PermissionDenied => Kind::Forbidden,
            std::io::ErrorKind::ConnectionRefused
            | std::io::ErrorKind::ConnectionReset
            | std::io::ErrorKind::ConnectionAborted
            | std::io::ErrorKind::NotConnected
            | std::io::ErrorKind::BrokenPipe
            | std::io::ErrorKind::UnexpectedEof => Kind::Disconnected,
            _ => Kind::Internal,
        };
        Self::new(kind, error.to_string())
    }
}

/// What every fallible function at a domain's edge returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;
