//! Leadership: at most one replica at a time does a role's writing.
//! (The lease itself is not written yet.)
