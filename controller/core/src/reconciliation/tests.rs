//! Tables and laws of planning and reporting.
