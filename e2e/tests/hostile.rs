//! What an attacker tries: stolen tokens, forged pods, edited objects, other people's names, broken
//! requests, paths that mean two things. Each is refused, and where the store was asked, its audit
//! log says so.

#[path = "hostile/administration.rs"]
mod administration;
#[path = "hostile/forgeries.rs"]
mod forgeries;
#[path = "hostile/requests.rs"]
mod requests;
#[path = "hostile/rights.rs"]
mod rights;
#[path = "hostile/spaces.rs"]
mod spaces;
#[path = "hostile/support.rs"]
mod support;
#[path = "hostile/tokens.rs"]
mod tokens;
