// SPDX-License-Identifier: Apache-2.0
//! The only place where a core error becomes a Python exception; the classes live in `kedge.errors`.

use kedge_core::{Error, Kind};
use pyo3::prelude::*;

mod py {
    pyo3::import_exception!(kedge.errors, KedgeError);
    pyo3::import_exception!(kedge.errors, NotFound);
    pyo3::import_exception!(kedge.errors, Conflict);
    pyo3::import_exception!(kedge.errors, AlreadyExists);
    pyo3::import_exception!(kedge.errors, Gone);
    pyo3::import_exception!(kedge.errors, Invalid);
    pyo3::import_exception!(kedge.errors, Forbidden);
    pyo3::import_exception!(kedge.errors, Unauthorized);
    pyo3::import_exception!(kedge.errors, TooLarge);
    pyo3::import_exception!(kedge.errors, Full);
    pyo3::import_exception!(kedge.errors, Corrupt);
    pyo3::import_exception!(kedge.errors, Disconnected);
    pyo3::import_exception!(kedge.errors, Rejected);
    pyo3::import_exception!(kedge.errors, CertificateError);
    pyo3::import_exception!(kedge.errors, DeadlineExceeded);
    pyo3::import_exception!(kedge.errors, RuntimeFailure);
    pyo3::import_exception!(kedge.errors, Closed);
}

/// The Python exception for `error`.
pub(crate) fn into_py(error: Error) -> PyErr {
    let message = error.message;
    match error.kind {
        Kind::Internal => py::KedgeError::new_err(message),
        Kind::NotFound => py::NotFound::new_err(message),
        Kind::Conflict => py::Conflict::new_err(message),
        Kind::AlreadyExists => py::AlreadyExists::new_err(message),
        Kind::Gone => py::Gone::new_err(message),
        Kind::Invalid => py::Invalid::new_err(message),
        Kind::Forbidden => py::Forbidden::new_err(message),
        Kind::Unauthorized => py::Unauthorized::new_err(message),
        Kind::TooLarge => py::TooLarge::new_err(message),
        Kind::Full => py::Full::new_err(message),
        Kind::Corrupt => py::Corrupt::new_err(message),
        Kind::Disconnected => py::Disconnected::new_err(message),
        Kind::Rejected => py::Rejected::new_err(message),
        Kind::Certificate => py::CertificateError::new_err(message),
        Kind::Timeout => py::DeadlineExceeded::new_err(message),
        Kind::Runtime => py::RuntimeFailure::new_err(message),
        Kind::Closed => py::Closed::new_err(message),
    }
}
