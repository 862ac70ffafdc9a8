//! Moments that people write, and moments that people read.

use std::time::Duration;

use chrono::{DateTime, Local, NaiveDateTime, TimeZone, Utc};

/// What `--at` may be.
const FORMS: &str =
    "write 2026-11-25T14:00:00Z, '2026-11-25 14:00' (this machine's time), or '10m ago'";

/// A moment as ms since 1970.
///
/// # Errors
/// What is wrong with the text, and what it may be.
pub fn parse(text: &str, now: DateTime<Utc>) -> Result<u64, (String, &'static str)> {
    let text = text.trim();
    let refused = |why: &str| (format!("`{text}` {why}"), FORMS);
    let moment = if text.eq_ignore_ascii_case("now") {
        now
    } else if let Ok(moment) = DateTime::parse_from_rfc3339(text) {
        moment.to_utc()
    } else if let Some(moment) = local(text) {
        moment
    } else if let Some(ago) = ago(text) {
        let ago = chrono::TimeDelta::from_std(ago).ok();
        let moment = ago.and_then(|ago| now.checked_sub_signed(ago));
        moment.ok_or_else(|| refused("is too long ago"))?
    } else {
        return Err(refused("is no time"));
    };
    if moment > now {
        return Err(refused("has not come yet"));
    }
    u64::try_from(moment.timestamp_millis()).map_err(|_| refused("is too long ago"))
}

/// `2026-11-25 14:00`, `2026-11-25T14:00:30`, in this machine's time.
fn local(text: &str) -> Option<DateTime<Utc>> {
    let text = text.replacen('T', " ", 1);
    let naive = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M"]
        .iter()
        .find_map(|form| NaiveDateTime::parse_from_str(&text, form).ok())?;
    // When clocks are put back a time comes twice: the first is meant.
    Some(Local.from_local_datetime(&naive).earliest()?.to_utc())
}

/// `10m ago`, `1h30m`, `2 days ago`.
fn ago(text: &str) -> Option<Duration> {
    let text = text.strip_suffix("ago").unwrap_or(text).trim();
    let mut rest = text;
    let mut seconds = 0_f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = rest[digits..].trim_start();
        let word = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        seconds += number * unit(&rest[..word])?;
        rest = rest[word..].trim_start();
    }
    (!text.is_empty()).then(|| Duration::try_from_secs_f64(seconds).ok())?
}

fn unit(word: &str) -> Option<f64> {
    Some(match word {
        "ms" => 1e-3,
        "s" | "sec" | "second" | "seconds" => 1.0,
        "m" | "min" | "minute" | "minutes" => 60.0,
        "h" | "hour" | "hours" => 3600.0,
        "d" | "day" | "days" => 86_400.0,
        "w" | "week" | "weeks" => 7.0 * 86_400.0,
        _ => return None,
    })
}

/// `2026-11-25T14:00:03.120Z`.
pub fn rfc3339(ms: u64) -> String {
    moment(ms).to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

/// The moment of now.
pub fn rfc3339_now() -> String {
    Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

/// `2026-11-25 15:00:03 (10 minutes ago)`, in this machine's time.
pub fn shown(ms: u64) -> String {
    let local = moment(ms).with_timezone(&Local).format("%Y-%m-%d %H:%M:%S");
    format!("{local} ({})", since(Utc::now().signed_duration_since(moment(ms))))
}

fn moment(ms: u64) -> DateTime<Utc> {
    i64::try_from(ms).ok().and_then(DateTime::from_timestamp_millis).unwrap_or_default()
}

fn since(passed: chrono::TimeDelta) -> String {
    let seconds = passed.num_seconds();
    let (count, word) = match seconds {
        ..=1 => return "just now".to_owned(),
        2..=119 => (seconds, "seconds"),
        120..=7_199 => (seconds / 60, "minutes"),
        7_200..=172_799 => (seconds / 3600, "hours"),
        _ => (seconds / 86_400, "days"),
    };
    format!("{count} {word} ago")
}

/// `<0.1 ms`, `1.2 ms`, `350 ms`, `2.4 s`.
pub fn took(duration: Duration) -> String {
    let ms = duration.as_secs_f64() * 1e3;
    match ms {
        ..0.1 => "<0.1 ms".to_owned(),
        ..10.0 => format!("{ms:.1} ms"),
        ..1000.0 => format!("{ms:.0} ms"),
        _ => format!("{:.1} s", ms / 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Utc> {
        DateTime::parse_from_rfc3339("2026-11-25T14:00:00Z").unwrap().to_utc()
    }

    #[test]
    fn moments_are_understood() {
        let now_ms = now().timestamp_millis() as u64;
        for (text, seconds) in [
            ("10m ago", 600),
            ("1h30m", 5400),
            ("2 days ago", 172_800),
            ("90 s ago", 90),
            ("1.5h ago", 5400),
            ("now", 0),
            ("2026-11-25T13:00:00Z", 3600),
            ("2026-11-25T14:00:00+01:00", 3600),
        ] {
            assert_eq!(parse(text, now()), Ok(now_ms - seconds * 1000), "{text}");
        }
        assert!(parse("2026-11-20 14:00", now()).is_ok());
        assert!(parse("2026-11-20T14:00:30", now()).is_ok());
    }

    #[test]
    fn what_is_no_moment_is_refused_with_what_may_be() {
        for text in [
            "",
            "ago",
            "10",
            "10 parsecs ago",
            "2026-13-01",
            "2027-01-01T00:00:00Z",
            "-5m",
            "99999999999999d",
            "yesterday",
        ] {
            let (_, hint) = parse(text, now()).unwrap_err();
            assert!(hint.contains("ago"), "{text}");
        }
    }

    #[test]
    fn spans_are_read_at_a_glance() {
        let of = |seconds| since(chrono::TimeDelta::seconds(seconds));
        assert_eq!(
            (of(1), of(90), of(600)),
            ("just now".into(), "90 seconds ago".into(), "10 minutes ago".into())
        );
        assert_eq!(of(3 * 86_400), "3 days ago");
    }
}
