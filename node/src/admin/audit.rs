//! A page of the audit: the gateway has each copy read from disk and verified.

use super::schema::AuditPage;
use super::{Admin, Refused};
use crate::runtime::Runtime;

impl<R: Runtime> Admin<R> {
    /// The page after `after`.
    pub(super) async fn audit_page(&self, _after: Option<String>) -> Result<AuditPage, Refused> {
        Err(Refused::new("this version cannot audit"))
    }
}
