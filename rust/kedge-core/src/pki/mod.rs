//! Keys, certificates and signed tokens.
