//! Puts an app's static assets before its code.

use std::sync::Arc;

use verge_types::{Deployment, Service};

use crate::failure::Failure;

pub struct Assets;

impl Assets {
    pub fn of(deployment: &Deployment) -> Result<Self, Failure> {
        match &deployment.assets {
            None => Ok(Self),
            Some(_) => Err(Failure::new("assets", "assets are not served yet")),
        }
    }

    pub fn binding(&self) -> Option<Arc<dyn Service>> {
        None
    }

    pub fn before(self, code: Option<Arc<dyn Service>>) -> Result<Arc<dyn Service>, Failure> {
        code.ok_or_else(|| Failure::new("nothing", "the app has neither code nor assets"))
    }
}
