//! Health checks and checks of a task.

use super::CommandInfo;

super::messages! {
    /// How it is known whether the task is well.
    #[derive(Debug)]
    pub struct HealthCheck {
        /// `COMMAND`, `HTTP` or `TCP`.
        pub r#type: Option<String>,
        /// The command to run; exit code 0 is healthy.
        pub command: Option<CommandInfo>,
        /// The HTTP request to send.
        pub http: Option<HttpHealthCheck>,
        /// The TCP connection to open.
        pub tcp: Option<TcpHealthCheck>,
        /// Seconds until the first check; 15 when absent.
        pub delay_seconds: Option<f64>,
        /// Seconds between checks; 10 when absent.
        pub interval_seconds: Option<f64>,
        /// Seconds that a check may take; 20 when absent.
        pub timeout_seconds: Option<f64>,
        /// Failures in a row that make the task unhealthy; 3 when absent.
        pub consecutive_failures: Option<i64>,
        /// Seconds from the start in which failures do not count; 10 when absent.
        pub grace_period_seconds: Option<f64>,
    }

    /// An HTTP health check.
    #[derive(Debug)]
    pub struct HttpHealthCheck {
        /// `IPV4` or `IPV6`.
        pub protocol: Option<String>,
        /// `http` (the default) or `https`.
        pub scheme: Option<String>,
        /// The port.
        pub port: Option<i64>,
        /// The path; `/` when absent.
        pub path: Option<String>,
        /// Status codes that are healthy; 200 to 399 when empty.
        pub statuses: Vec<i64>,
    }

    /// A TCP health check.
    #[derive(Debug)]
    pub struct TcpHealthCheck {
        /// `IPV4` or `IPV6`.
        pub protocol: Option<String>,
        /// The port.
        pub port: Option<i64>,
    }

    /// A check whose result is only reported.
    #[derive(Debug)]
    pub struct CheckInfo {
        /// `COMMAND`, `HTTP` or `TCP`.
        pub r#type: Option<String>,
        /// The command to run.
        pub command: Option<CommandCheck>,
        /// The HTTP request to send.
        pub http: Option<HttpCheck>,
        /// The TCP connection to open.
        pub tcp: Option<TcpCheck>,
        /// Seconds until the first check.
        pub delay_seconds: Option<f64>,
        /// Seconds between checks.
        pub interval_seconds: Option<f64>,
        /// Seconds that a check may take.
        pub timeout_seconds: Option<f64>,
    }

    /// A command check.
    #[derive(Debug)]
    pub struct CommandCheck {
        /// The command to run.
        pub command: Option<CommandInfo>,
    }

    /// An HTTP check.
    #[derive(Debug)]
    pub struct HttpCheck {
        /// The port.
        pub port: Option<i64>,
        /// The path.
        pub path: Option<String>,
    }

    /// A TCP check.
    #[derive(Debug)]
    pub struct TcpCheck {
        /// The port.
        pub port: Option<i64>,
    }
}
