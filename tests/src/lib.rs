//! End-to-end tests on real clients and servers.
