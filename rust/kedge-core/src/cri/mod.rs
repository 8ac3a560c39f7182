//! A client of the container runtime interface, CRI v1.
