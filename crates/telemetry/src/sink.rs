//! Writes log and access records to a stream: a line for people, or a JSON object for machines.
//!
//! One record is one write, so lines of several threads never mix. What an app logs is data:
//! control characters are escaped, so that it cannot move a terminal's cursor or forge a line.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::{AccessLog, AccessRecord, Level, LogRecord, LogSink};

/// How a record looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people; `colour` decides about escape sequences.
    Human { colour: bool },
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    /// For people, in colour if the stream is a terminal and `NO_COLOR` is unset or empty.
    pub fn human(stream: &impl IsTerminal, no_color: Option<&str>) -> Self {
        Self::Human { colour: stream.is_terminal() && no_color.is_none_or(str::is_empty) }
    }
}

/// A sink for both kinds of records.
pub struct StreamSink<W> {
    stream: Mutex<W>,
    format: LogFormat,
    least: Level,
}

impl<W: Write + Send + 'static> StreamSink<W> {
    /// Records quieter than `least` are left out.
    pub fn new(stream: W, format: LogFormat, least: Level) -> Self {
        Self { stream: Mutex::new(stream), format, least }
    }

    fn put(&self, line: &str) {
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        // A log that cannot be written must not stop what it tells of.
        let _ = stream.write_all(line.as_bytes()).and_then(|()| stream.flush());
    }
}

impl<W: Write + Send + 'static> LogSink for StreamSink<W> {
    fn write(&self, record: LogRecord) {
        if record.level >= self.least {
            self.put(&match self.format {
                LogFormat::Human { colour } => human(&record, colour),
                LogFormat::Json => json(&record),
            });
        }
    }
}

impl<W: Write + Send + 'static> AccessLog for StreamSink<W> {
    fn record(&self, entry: AccessRecord) {
        self.put(&match self.format {
            LogFormat::Human { colour } => human_access(&entry, colour),
            LogFormat::Json => json_access(&entry),
        });
    }

    fn enabled(&self) -> bool {
        self.least <= Level::Info
    }
}

const RESET: &str = "\x1b[0m";
const DIM: &str = "\x1b[2m";

fn paint(out: &mut String, colour: bool, code: &str, text: &str) {
    if colour {
        out.push_str(code);
        out.push_str(text);
        out.push_str(RESET);
    } else {
        out.push_str(text);
    }
}

fn level_look(level: Level) -> (&'static str, &'static str) {
    match level {
        Level::Debug => ("debug", DIM),
        Level::Info => ("info ", "\x1b[36m"),
        Level::Warn => ("warn ", "\x1b[33m"),
        Level::Error => ("error", "\x1b[31m"),
    }
}

fn human(record: &LogRecord, colour: bool) -> String {
    let mut out = String::with_capacity(record.message.len() + 64);
    paint(&mut out, colour, DIM, &timestamp(record.time)[11..23]);
    let (name, look) = level_look(record.level);
    out.push(' ');
    paint(&mut out, colour, look, name);
    out.push(' ');
    paint(&mut out, colour, "\x1b[1m", record.app.as_str());
    if let Some(request) = record.request {
        out.push(' ');
        paint(&mut out, colour, DIM, &request.to_string());
    }
    out.push(' ');
    // Further lines of a message are indented: none can look like a record of its own.
    escape_into(&mut out, record.message.trim_end(), true);
    out.push('\n');
    out
}

fn human_access(entry: &AccessRecord, colour: bool) -> String {
    let mut out = String::with_capacity(entry.path.len() + 96);
    paint(&mut out, colour, DIM, &timestamp(entry.time)[11..23]);
    let look = match entry.status {
        ..400 => "\x1b[32m",
        400..500 => "\x1b[33m",
        _ => "\x1b[31m",
    };
    out.push(' ');
    paint(&mut out, colour, look, &entry.status.to_string());
    let _ = write!(out, " {} ", entry.method);
    escape_into(&mut out, &entry.path, false);
    let app = entry.app.as_ref().map_or("-", |app| app.as_str());
    let _ = write!(out, " {app} {} B {}", entry.bytes, duration(entry.duration));
    if let Some(fault) = entry.fault {
        out.push(' ');
        paint(&mut out, colour, "\x1b[31m", fault);
    }
    if let Some(detail) = &entry.detail {
        out.push_str(": ");
        escape_into(&mut out, detail.trim_end(), true);
    }
    out.push(' ');
    paint(&mut out, colour, DIM, &entry.id.to_string());
    out.push('\n');
    out
}

fn duration(duration: Duration) -> String {
    let micros = duration.as_micros();
    if micros < 10_000 {
        format!("{}.{:02} ms", micros / 1000, micros % 1000 / 10)
    } else {
        format!("{} ms", micros / 1000)
    }
}

/// Copies text so that a terminal shows it and does nothing else.
fn escape_into(out: &mut String, text: &str, lines: bool) {
    for c in text.chars() {
        match c {
            '\n' if lines => out.push_str("\n    "),
            '\t' => out.push('\t'),
            c if c.is_control()
                || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
            {
                let _ = write!(out, "{}", c.escape_unicode());
            }
            c => out.push(c),
        }
    }
}

fn json(record: &LogRecord) -> String {
    line(&serde_json::json!({
        "kind": "log",
        "time": timestamp(record.time),
        "level": record.level,
        "app": record.app.as_str(),
        "deployment": record.deployment.as_str(),
        "requestId": record.request.map(|id| id.to_string()),
        "message": record.message,
    }))
}

fn json_access(entry: &AccessRecord) -> String {
    line(&serde_json::json!({
        "kind": "access",
        "time": timestamp(entry.time),
        "app": entry.app.as_ref().map(|app| app.as_str()),
        "requestId": entry.id.to_string(),
        "traceId": format!("{:032x}", entry.trace.trace_id),
        "method": entry.method.as_str(),
        "path": entry.path,
        "status": entry.status,
        "bytes": entry.bytes,
        "durationMs": entry.duration.as_secs_f64() * 1000.0,
        "protocol": entry.protocol,
        "peer": entry.peer.to_string(),
        "fault": entry.fault,
        "detail": entry.detail,
    }))
}

fn line(value: &serde_json::Value) -> String {
    let mut line = value.to_string();
    line.push('\n');
    line
}

/// RFC 3339 in UTC with milliseconds: always 24 bytes for the years 0 to 9999.
fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Gregorian calendar in eras of 400 years that begin on the first of March.
    let day = days + 719_468;
    let (era, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!(
        "{:04}-{month:02}-{date:02}T{:02}:{:02}:{:02}.{:03}Z",
        era * 400 + year + next,
        second / 3600,
        second / 60 % 60,
        second % 60,
        since.subsec_millis()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use verge_types::{DeploymentId, RequestId, TraceContext};

    fn record(message: &str) -> LogRecord {
        LogRecord {
            time: UNIX_EPOCH + Duration::from_millis(1_709_210_096_789),
            level: Level::Warn,
            app: "shop".parse().unwrap(),
            deployment: DeploymentId::from_digest(&[1; 8]),
            request: Some(RequestId(7)),
            message: message.to_owned(),
        }
    }

    #[test]
    fn times_are_rfc_3339() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_709_210_096, "2024-02-29T12:34:56.000Z"),
            (1_735_689_599, "2024-12-31T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(timestamp(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn people_get_lines_that_a_guest_cannot_forge() {
        let line = human(&record("a\n12:00:00.000 error other b\x1b[2J\r\u{202e}"), false);
        let expected = "12:34:56.789 warn  shop 0000000000000007 a\n    12:00:00.000 error other \
                        b\\u{1b}[2J\\u{d}\\u{202e}\n";
        assert_eq!(line, expected);
        assert!(human(&record("x"), true).contains("\x1b[33mwarn"));
    }

    #[test]
    fn machines_get_one_object_a_line() {
        let line = json(&record("a\nb\u{2028}"));
        assert_eq!(line.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["message"], "a\nb\u{2028}");
        assert_eq!(value["level"], "warn");
        assert_eq!(value["time"], "2024-02-29T12:34:56.789Z");
    }

    #[test]
    fn access_records_are_written_and_can_be_off() {
        let entry = AccessRecord {
            time: UNIX_EPOCH,
            id: RequestId(9),
            trace: TraceContext { trace_id: 1, span_id: 2, parent_id: None, sampled: false },
            app: Some("shop".parse().unwrap()),
            method: http::Method::GET,
            path: "/a?b".to_owned(),
            status: 504,
            bytes: 12,
            duration: Duration::from_micros(1234),
            protocol: "HTTP/2",
            peer: ([127, 0, 0, 1], 5).into(),
            fault: Some("wall_time_limit"),
            detail: Some("why".to_owned()),
        };
        assert_eq!(
            human_access(&entry, false),
            "00:00:00.000 504 GET /a?b shop 12 B 1.23 ms wall_time_limit: why 0000000000000009\n"
        );
        let value: serde_json::Value = serde_json::from_str(&json_access(&entry)).unwrap();
        assert_eq!((&value["status"], &value["fault"]), (&504.into(), &"wall_time_limit".into()));
        let quiet = StreamSink::new(Vec::new(), LogFormat::Json, Level::Error);
        assert!(!AccessLog::enabled(&quiet));
        quiet.write(record("not written"));
        assert!(quiet.stream.lock().unwrap().is_empty());
    }

    #[test]
    fn colours_respect_no_color() {
        let stream = std::io::stderr();
        assert_eq!(LogFormat::human(&stream, Some("1")), LogFormat::Human { colour: false });
    }
}
