//! Stories that stop Watchword's own pods, or change their settings or certificates: no other story
//! can be told on the same cluster meanwhile.

mod canary;
mod certificates;
mod chaos;
mod delivery;
mod steps;
