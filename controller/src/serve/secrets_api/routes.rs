//! The routes of the Secrets API: the one table by which they are served, and which the OpenAPI
//! document is compared with.

use std::sync::Arc;

use axum::Router;
use axum::handler::Handler;
use axum::http::Method;
use axum::routing::{MethodFilter, on};

use super::{archives, openapi, secret, stores};
use crate::serve::ceremony::api as ceremony;
use crate::serve::{Service, audit};

/// Paths and methods, and what answers them.
pub(super) struct Routes {
    /// What answers.
    pub(super) router: Router<Arc<Service>>,
    /// What is answered, in the order of the table.
    pub(super) served: Vec<(Method, &'static str)>,
}

/// The table. `GET` stands for `HEAD` too.
pub(super) fn routes() -> Routes {
    Routes { router: Router::new(), served: Vec::new() }
        .add(Method::GET, "/secrets/v1/audit/{store}", audit::public_key)
        .add(Method::GET, "/secrets/v1/backup/{store}", archives::backup)
        .add(Method::GET, "/secrets/v1/openapi.json", openapi::document)
        .add(Method::GET, "/secrets/v1/ping", stores::ping)
        .add(Method::GET, "/secrets/v1/ping/backends/{backend}", stores::ping_backend)
        .add(Method::GET, "/secrets/v1/seal-status/{store}", ceremony::seal_status)
        .add(Method::GET, "/secrets/v1/init/{store}", ceremony::read_init)
        .add(Method::PUT, "/secrets/v1/init/{store}", ceremony::init)
        .add(Method::PUT, "/secrets/v1/unseal/{store}", ceremony::unseal)
        .add(Method::PUT, "/secrets/v1/auto-unseal/{store}", ceremony::auto_unseal)
        .add(Method::PUT, "/secrets/v1/seal/{store}", ceremony::seal)
        .add(Method::GET, "/secrets/v1/rekey/{store}", ceremony::rekey_status)
        .add(Method::PUT, "/secrets/v1/rekey/{store}", ceremony::start_rekey)
        .add(Method::DELETE, "/secrets/v1/rekey/{store}", ceremony::cancel_rekey)
        .add(Method::PUT, "/secrets/v1/rekey/{store}/share", ceremony::give_rekey_share)
        .add(Method::GET, "/secrets/v1/rotate/{store}", ceremony::rotate_status)
        .add(Method::PUT, "/secrets/v1/rotate/{store}", ceremony::rotate)
        .add(Method::PUT, "/secrets/v1/restore/{store}", archives::restore)
        .add(Method::GET, "/secrets/v1/store", stores::list)
        .add(Method::GET, "/secrets/v1/store/{store}", stores::store)
        .add(Method::PUT, "/secrets/v1/store/{store}", stores::store)
        .add(Method::DELETE, "/secrets/v1/store/{store}", stores::store)
        .add(Method::GET, "/secrets/v1/verify/{store}", audit::verify)
        // The root, which can only be listed.
        .add(Method::GET, "/secrets/v1/secret/{store}", secret::secret)
        .add(Method::GET, "/secrets/v1/secret/{store}/", secret::secret)
        .add(Method::GET, "/secrets/v1/secret/{store}/{*path}", secret::secret)
        .add(Method::PUT, "/secrets/v1/secret/{store}/{*path}", secret::secret)
        .add(Method::PATCH, "/secrets/v1/secret/{store}/{*path}", secret::secret)
        .add(Method::DELETE, "/secrets/v1/secret/{store}/{*path}", secret::secret)
        .add(Method::PUT, "/secrets/v1/renew/{store}/{*path}", secret::renew)
        .add(Method::PUT, "/secrets/v1/revoke/{store}/{*path}", secret::revoke)
}

impl Routes {
    fn add<H, T>(mut self, method: Method, path: &'static str, handler: H) -> Self
    where
        H: Handler<T, Arc<Service>>,
        T: 'static,
    {
        // axum knows every method that the table has.
        let filter = MethodFilter::try_from(method.clone()).unwrap_or(MethodFilter::GET);
        self.router = self.router.route(path, on(filter, handler));
        self.served.push((method, path));
        self
    }
}
