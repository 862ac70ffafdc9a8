//! `console.*` and uncaught errors.

use std::time::SystemTime;

use deno_core::{OpState, op2};
use verge_telemetry::{Level, LogRecord};

use super::{exchanges, host};
use crate::{ExchangeId, stack};

/// Longest message of one record, in bytes; the rest is cut and said to be.
const MAX_MESSAGE: usize = 64 * 1024;

#[op2(fast)]
pub fn op_verge_log(
    state: &mut OpState,
    #[smi] level: u8,
    #[smi] id: ExchangeId,
    #[string] message: String,
) {
    let level = match level {
        0 => Level::Debug,
        1 => Level::Info,
        2 => Level::Warn,
        _ => Level::Error,
    };
    write(state, level, id, message);
}

/// Writes a record for the isolate's app; silently does nothing before an app has claimed it.
pub fn write(state: &mut OpState, level: Level, id: ExchangeId, message: String) {
    let mut message = stack::of_the_app(&message).into_owned();
    if message.len() > MAX_MESSAGE {
        let mut end = MAX_MESSAGE;
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        let cut = message.len() - end;
        message.truncate(end);
        message.push_str(&format!("… ({cut} bytes more)"));
    }
    let request = exchanges(state).get(id).map(|exchange| exchange.cx.id);
    if let Some(host) = host(state) {
        host.log.write(LogRecord {
            time: SystemTime::now(),
            level,
            app: host.app.clone(),
            deployment: host.deployment.clone(),
            request,
            message,
        });
    }
}
