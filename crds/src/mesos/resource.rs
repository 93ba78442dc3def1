//! What a task needs of a machine.

use super::Id;
use crate::Opaque;

super::messages! {
    /// One resource: `cpus`, `mem` (MB), `disk` (MB), `gpus`, `ports` …
    #[derive(Debug)]
    pub struct Resource {
        /// The resource provider's id.
        pub provider_id: Option<Id>,
        /// The resource's name.
        pub name: Option<String>,
        /// `SCALAR`, `RANGES` or `SET`.
        pub r#type: Option<String>,
        /// The amount; for type `SCALAR`.
        pub scalar: Option<Scalar>,
        /// The ranges; for type `RANGES`.
        pub ranges: Option<Ranges>,
        /// The items; for type `SET`.
        pub set: Option<Set>,
        /// The role; deprecated.
        pub role: Option<String>,
        /// Which role it is allocated to.
        pub allocation_info: Option<Opaque>,
        /// A reservation; deprecated.
        pub reservation: Option<Opaque>,
        /// Reservations.
        pub reservations: Vec<Opaque>,
        /// A disk and its persistence.
        pub disk: Option<Opaque>,
        /// Whether it can be taken away.
        pub revocable: Option<Opaque>,
        /// Whether it is shared.
        pub shared: Option<Opaque>,
    }

    /// An amount.
    #[derive(Debug)]
    pub struct Scalar {
        /// The amount, precise to three decimals.
        pub value: Option<f64>,
    }

    /// Ranges of numbers.
    #[derive(Debug)]
    pub struct Ranges {
        /// The ranges.
        pub range: Vec<Range>,
    }

    /// A range of numbers, both ends included.
    #[derive(Debug)]
    pub struct Range {
        /// The first number.
        pub begin: Option<i64>,
        /// The last number.
        pub end: Option<i64>,
    }

    /// Items.
    #[derive(Debug)]
    pub struct Set {
        /// The items.
        pub item: Vec<String>,
    }
}
