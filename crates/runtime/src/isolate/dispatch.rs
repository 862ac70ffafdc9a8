//! From an event to a call of the app's code.

use std::time::Instant;

use deno_core::v8;
use http::Method;
use verge_engine::{Exchange, ExchangeId, Exchanges};
use verge_types::{Blame, Fault};

use super::boot::Booted;
use crate::event::{Event, Target};

/// The index of a method in METHODS of `incoming.js`.
fn method_index(method: &Method) -> i32 {
    match *method {
        Method::GET => 0,
        Method::HEAD => 1,
        Method::POST => 2,
        Method::PUT => 3,
        Method::DELETE => 4,
        Method::PATCH => 5,
        Method::OPTIONS => 6,
        _ => -1,
    }
}

impl Booted {
    /// Opens an exchange for the event and calls the app. `None` when the isolate has used up
    /// its ids and must be replaced; the event's reply has been told.
    pub fn dispatch(&mut self, event: Event) -> Option<ExchangeId> {
        let (parts, body) = event.request.into_parts();
        let method = method_index(&parts.method);
        let has_body = !body.is_empty();
        let mut exchange = Exchange::new(parts, body, event.cx, event.reply, event.arrived);
        if event.from_client {
            exchange.describe_client();
        }
        let id = self.runtime.op_state().borrow_mut().borrow_mut::<Exchanges>().open(exchange)?;
        if self.call_target(id, method, has_body, &event.target).is_none() {
            // Terminated (the verdict tells) or the arguments did not fit V8's strings.
            if self.slice.verdict().is_none() {
                let fault = Fault::new(
                    "dispatch_failed",
                    Blame::Platform,
                    500,
                    "The request could not be handed to the app",
                );
                self.with_exchanges(|exchanges| exchanges.fail(id, fault));
            }
        }
        Some(id)
    }

    pub fn with_exchanges<T>(&mut self, f: impl FnOnce(&mut Exchanges) -> T) -> T {
        f(self.runtime.op_state().borrow_mut().borrow_mut::<Exchanges>())
    }

    fn call_target(
        &mut self,
        id: ExchangeId,
        method: i32,
        has_body: bool,
        target: &Target,
    ) -> Option<()> {
        let Self { functions, runtime, .. } = self;
        let function = match target {
            Target::Fetch => &functions.on_fetch,
            Target::Entrypoint(_) => &functions.on_entrypoint_fetch,
            Target::Call { .. } => &functions.on_call,
            Target::Scheduled { .. } => &functions.on_scheduled,
        };
        deno_core::scope!(scope, runtime);
        v8::tc_scope!(let scope, scope);
        let function = v8::Local::new(scope, function);
        let receiver = v8::undefined(scope).into();
        let id = v8::Integer::new_from_unsigned(scope, id).into();
        let method_value = v8::Integer::new(scope, method).into();
        let has_body = v8::Boolean::new(scope, has_body).into();
        match target {
            Target::Fetch => function.call(scope, receiver, &[id, method_value, has_body]),
            Target::Entrypoint(target) => {
                let name = v8::String::new(scope, target.entrypoint.as_deref().unwrap_or(""))?;
                let props = v8::String::new(scope, &target.props.to_string())?;
                let props = v8::json::parse(scope, props)?;
                let args = [id, method_value, has_body, name.into(), props];
                function.call(scope, receiver, &args)
            }
            Target::Call { entrypoint, method, args } => {
                let name = v8::String::new(scope, entrypoint.entrypoint.as_deref().unwrap_or(""))?;
                let props = v8::String::new(scope, &entrypoint.props.to_string())?;
                let props = v8::json::parse(scope, props)?;
                let method = v8::String::new(scope, method)?;
                let len = args.len();
                let store = v8::ArrayBuffer::new_backing_store_from_vec(args.clone()).make_shared();
                let buffer = v8::ArrayBuffer::with_backing_store(scope, &store);
                let args = v8::Uint8Array::new(scope, buffer, 0, len)?;
                let args = [id, name.into(), props, method.into(), args.into()];
                function.call(scope, receiver, &args)
            }
            Target::Scheduled { cron, time } => {
                let cron = v8::String::new(scope, cron)?;
                let time = v8::Number::new(scope, *time);
                function.call(scope, receiver, &[id, cron.into(), time.into()])
            }
        }
        .map(|_| ())
    }

    /// Exchanges that nobody can finish any more are dropped; what holds an answered one
    /// longer than `grace` is cut off.
    pub fn sweep(&mut self, now: Instant, grace: std::time::Duration) -> usize {
        self.with_exchanges(|exchanges| {
            let overdue: Vec<_> = exchanges
                .iter()
                .filter(|(_, exchange)| {
                    let old = now.saturating_duration_since(exchange.started) > grace;
                    exchange.is_abandoned() && old
                })
                .map(|(id, _)| id)
                .collect();
            for id in &overdue {
                exchanges.forget(*id);
            }
            overdue.len()
        })
    }
}
