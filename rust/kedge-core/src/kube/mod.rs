//! A client of an API server: requests, and list-watch into a store.
