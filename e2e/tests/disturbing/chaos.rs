//! Chaos: parts of Watchword are taken away, and nothing goes wrong that would stay wrong.
//!
//! The stories stop and kill Watchword's own pods, one story after the other, and put all back.

mod controller;
mod store;
mod webhook;
