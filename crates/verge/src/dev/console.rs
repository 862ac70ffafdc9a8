//! What apps say and which requests were answered, as lines.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::json;
use verge_telemetry::{AccessLog, AccessRecord, Level, LogRecord, LogSink};
use verge_types::AppName;

use crate::diagnostics::printable;
use crate::terminal::{Style, Terminal};

pub struct Console {
    terminal: Terminal,
    /// Lines begin with the app's name.
    several: bool,
    /// Apps that are starting, and the errors that they said meanwhile.
    starting: Mutex<HashMap<AppName, Vec<LogRecord>>>,
}

impl Console {
    pub fn new(terminal: Terminal, several: bool) -> Self {
        Self { terminal, several, starting: Mutex::default() }
    }

    /// Keeps back the errors of an app's start, since the last of them may be told otherwise.
    pub fn hold(&self, app: &AppName) {
        self.starting.lock().insert(app.clone(), Vec::new());
    }

    /// Says what was kept back, but for the one that is told otherwise.
    pub fn release(&self, app: &AppName, told: Option<&str>) {
        let held = self.starting.lock().remove(app).unwrap_or_default();
        for record in held.into_iter().filter(|record| Some(record.message.as_str()) != told) {
            self.write(record);
        }
    }

    fn label(&self, app: &str) -> String {
        if self.several {
            format!("{} ", self.terminal.paint(Style::Accent, app))
        } else {
            String::new()
        }
    }
}

impl LogSink for Console {
    fn write(&self, record: LogRecord) {
        if record.request.is_none()
            && record.level == Level::Error
            && let Some(held) = self.starting.lock().get_mut(&record.app)
        {
            held.push(record);
            return;
        }
        let app = record.app.as_str();
        if self.terminal.is_json() {
            let request = record.request.map(|id| id.to_string());
            self.terminal.event(
                "log",
                json!({
                    "app": app,
                    "level": record.level,
                    "request": request,
                    "message": record.message,
                }),
            );
            return;
        }
        let text = printable(record.message.trim_end());
        let label = self.label(app);
        let line = match record.level {
            Level::Debug => format!("{label}{}", self.terminal.paint(Style::Faint, &text)),
            Level::Info => format!("{label}{text}"),
            Level::Warn => format!("{label}{} {text}", self.terminal.paint(Style::Warn, "warn")),
            Level::Error => format!("{label}{} {text}", self.terminal.paint(Style::Bad, "error")),
        };
        if record.level >= Level::Warn {
            self.terminal.complain(&line);
        } else {
            self.terminal.print(&line);
        }
    }
}

/// The gateway owns its log; this one shares the console.
pub struct Requests(pub Arc<Console>);

impl AccessLog for Requests {
    fn record(&self, entry: AccessRecord) {
        if entry.path.starts_with(super::inner::PREFIX) {
            return;
        }
        let terminal = &self.0.terminal;
        let app = entry.app.as_ref().map_or("-", |app| app.as_str());
        let micros = u64::try_from(entry.duration.as_micros()).unwrap_or(u64::MAX);
        if terminal.is_json() {
            terminal.event(
                "request",
                json!({
                    "id": entry.id.to_string(),
                    "app": app,
                    "method": entry.method.as_str(),
                    "path": entry.path,
                    "status": entry.status,
                    "bytes": entry.bytes,
                    "took_us": micros,
                    "protocol": entry.protocol,
                    "fault": entry.fault,
                }),
            );
            return;
        }
        let style = match entry.status {
            500.. => Style::Bad,
            400.. => Style::Warn,
            _ => Style::Good,
        };
        let label = self.0.label(app);
        let status = terminal.paint(style, &entry.status.to_string());
        let took = format!("{}.{} ms", micros / 1_000, micros % 1_000 / 100);
        let mut line = format!(
            "{label}{} {} {status} {}",
            entry.method,
            printable(&entry.path),
            terminal.paint(Style::Faint, &took)
        );
        if let Some(fault) = entry.fault {
            line.push_str(&format!(" {}", terminal.paint(Style::Bad, fault)));
        }
        terminal.note(&line);
    }
}
