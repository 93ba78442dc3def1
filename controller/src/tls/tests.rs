//! Real TLS connections.
