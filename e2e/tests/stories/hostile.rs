//! What an attacker tries: stolen tokens, forged pods, edited objects, other people's names, broken
//! requests, paths that mean two things. Each is refused, and where the store was asked, its audit
//! log says so.

mod administration;
mod forgeries;
mod requests;
mod rights;
mod spaces;
mod support;
mod tokens;
