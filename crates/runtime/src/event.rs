//! What is sent to an isolate's thread.

use std::sync::Arc;
use std::time::Instant;

use http::Request;
use tokio::sync::oneshot;
use verge_engine::{Courier, Host, Reply};
use verge_telemetry::{AppIsolates, IsolateStart};
use verge_types::{Body, Deployment, Fault, Limits, RequestContext, ServiceTarget};

use crate::app::App;
use crate::code_cache::CodeCaches;
use crate::limits::cpu::Restless;
use crate::needs::Needs;

/// Which part of the app an event is for.
pub(crate) enum Target {
    /// The default export's `fetch`.
    Fetch,
    /// `fetch` of an entrypoint, through a service binding.
    Entrypoint(Arc<ServiceTarget>),
    /// A method of an entrypoint, with serialized arguments.
    Call { entrypoint: Arc<ServiceTarget>, method: String, args: Vec<u8> },
    /// A cron trigger; milliseconds since the epoch.
    Scheduled { cron: String, time: f64 },
}

/// One piece of work for an app.
pub(crate) struct Event {
    pub request: Request<Body>,
    /// It came from outside, so that the client is to be told among its headers.
    pub from_client: bool,
    pub cx: RequestContext,
    pub target: Target,
    pub reply: Reply,
    pub arrived: Instant,
    /// How many isolates died under it.
    pub tries: u8,
}

/// What makes a booted isolate the isolate of one app.
pub(crate) struct Claim {
    pub app: std::sync::Weak<App>,
    pub host: Arc<Host>,
    pub deployment: Arc<Deployment>,
    pub needs: Needs,
    pub limits: Limits,
    pub code_caches: Arc<CodeCaches>,
    pub restless: Arc<Restless>,
    pub meter: Option<Arc<AppIsolates>>,
    /// When the isolate was asked for.
    pub asked: Instant,
    pub start: IsolateStart,
    /// Told when the app's top-level code has run, or why it did not.
    pub ready: oneshot::Sender<Result<(), Fault>>,
}

pub(crate) enum Command {
    Claim(Box<Claim>),
    Events(Vec<Event>),
    /// How answers leave from now on.
    Courier(Courier),
    /// Finish what is running, take nothing new, then end.
    Retire,
}

impl Event {
    /// Ends the event without its having run.
    pub fn fail(self, fault: Fault) {
        // Nobody waiting is nobody to tell.
        match self.reply {
            Reply::Http(sender) => drop(sender.send(Err(fault))),
            Reply::Event(sender) => drop(sender.send(Err(fault))),
        }
    }
}
