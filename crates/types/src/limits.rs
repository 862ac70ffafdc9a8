//! Every limit of an app in one place: name, unit, default, reason and error page.
//!
//! `limits.<key>` in `verge.jsonc` sets one; `verge check --limits` prints the table.

use std::fmt;

use crate::Blame;

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Bytes,
    Milliseconds,
    Count,
}

impl Unit {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Milliseconds => "ms",
            Self::Count => "at most",
        }
    }
}

/// All that is fixed of a limit.
#[derive(Debug)]
pub struct LimitSpec {
    /// The key under `limits` in the configuration.
    pub key: &'static str,
    /// The stable code on the error page and in the metric `verge_limit_hits_total{limit=…}`.
    pub code: &'static str,
    pub unit: Unit,
    pub default: u64,
    pub min: u64,
    pub max: u64,
    pub status: u16,
    pub blame: Blame,
    /// The public sentence, without the value.
    pub message: &'static str,
    /// Why it exists and why this default.
    pub reason: &'static str,
}

macro_rules! limits {
    ($($(#[$meta:meta])* $variant:ident / $field:ident = $spec:expr;)*) => {
        /// A limit's identity.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Limit { $($(#[$meta])* $variant,)* }

        impl Limit {
            pub const ALL: &'static [Limit] = &[$(Limit::$variant,)*];

            pub fn spec(self) -> &'static LimitSpec {
                match self { $(Limit::$variant => { static SPEC: LimitSpec = $spec; &SPEC })* }
            }
        }

        /// The limits of one app, in each limit's own unit.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Limits { $($(#[$meta])* pub $field: u64,)* }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($field: Limit::$variant.spec().default,)* }
            }
        }

        impl Limits {
            pub fn get(&self, limit: Limit) -> u64 {
                match limit { $(Limit::$variant => self.$field,)* }
            }

            fn set(&mut self, limit: Limit, value: u64) {
                match limit { $(Limit::$variant => self.$field = value,)* }
            }
        }
    };
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

limits! {
    /// JavaScript heap of one isolate.
    Heap / heap = LimitSpec {
        key: "heap", code: "heap_limit", unit: Unit::Bytes,
        default: 128 * MIB, min: 8 * MIB, max: 4096 * MIB, status: 503, blame: Blame::Guest,
        message: "The app used more memory than its heap limit",
        reason: "One app must not take the node's memory; 128 MiB is what Workers code is written for.",
    };
    /// Array buffers and WebAssembly memories of one isolate, outside its heap.
    ExternalMemory / external_memory = LimitSpec {
        key: "external_memory", code: "external_memory_limit", unit: Unit::Bytes,
        default: 128 * MIB, min: MIB, max: 4096 * MIB, status: 503, blame: Blame::Guest,
        message: "The app used more array buffer memory than its limit",
        reason: "Typed arrays live outside the heap, so the heap limit does not see them.",
    };
    /// CPU time that one request may use.
    CpuTime / cpu_time = LimitSpec {
        key: "cpu_time", code: "cpu_limit", unit: Unit::Milliseconds,
        default: 500, min: 1, max: 300_000, status: 503, blame: Blame::Guest,
        message: "The request used more CPU time than its limit",
        reason: "Isolates share cores; an endless loop must end. Counts computing, not waiting; a large page rendered by cold code takes 100 to 200 ms.",
    };
    /// Time from a request's arrival to its last response byte.
    WallTime / wall_time = LimitSpec {
        key: "wall_time", code: "wall_time_limit", unit: Unit::Milliseconds,
        default: 30_000, min: 10, max: 86_400_000, status: 504, blame: Blame::Guest,
        message: "The app did not answer within its wall time limit",
        reason: "A request that waits for ever holds memory for ever.",
    };
    /// Top-level evaluation of the app's modules, in CPU time.
    StartupTime / startup_time = LimitSpec {
        key: "startup_time", code: "startup_limit", unit: Unit::Milliseconds,
        default: 1_000, min: 10, max: 60_000, status: 503, blame: Blame::Guest,
        message: "The app's top-level code took longer than its start-up limit",
        reason: "Start-up is paid by whoever comes first after an idle app was dropped.",
    };
    /// Bytes of a request body.
    RequestBody / request_body = LimitSpec {
        key: "request_body", code: "request_body_limit", unit: Unit::Bytes,
        default: 100 * MIB, min: 0, max: 5120 * MIB, status: 413, blame: Blame::Caller,
        message: "The request body is larger than this app accepts",
        reason: "An upload must be refused before it is paid for.",
    };
    /// Bytes of a response body.
    ResponseBody / response_body = LimitSpec {
        key: "response_body", code: "response_body_limit", unit: Unit::Bytes,
        default: 1024 * MIB, min: 0, max: 1024 * 1024 * MIB, status: 500, blame: Blame::Guest,
        message: "The app's response body is larger than its limit",
        reason: "An endless stream must end.",
    };
    /// Outbound requests, WebSockets and service calls of one request.
    Subrequests / subrequests = LimitSpec {
        key: "subrequests", code: "subrequest_limit", unit: Unit::Count,
        default: 1_000, min: 0, max: 100_000, status: 503, blame: Blame::Guest,
        message: "The request made more subrequests than its limit",
        reason: "One request must not become an attack on somebody else.",
    };
    /// Requests that one isolate serves at a time; more wait, then are refused.
    ConcurrentRequests / concurrent_requests = LimitSpec {
        key: "concurrent_requests", code: "concurrency_limit", unit: Unit::Count,
        default: 512, min: 1, max: 65_536, status: 503, blame: Blame::Guest,
        message: "The app is serving as many requests at a time as its limit allows",
        reason: "A queue without a bound only moves the failure to where it costs more.",
    };
    /// Bytes of all modules of a deployment together.
    ScriptSize / script_size = LimitSpec {
        key: "script_size", code: "script_size_limit", unit: Unit::Bytes,
        default: 64 * MIB, min: KIB, max: 512 * MIB, status: 500, blame: Blame::Guest,
        message: "The app's modules together are larger than the script size limit",
        reason: "Every PoP holds and compiles them.",
    };
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.spec().key)
    }
}

/// Why a limit could not be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LimitOverrideError {
    UnknownKey { key: String },
    NotAQuantity { key: &'static str, given: String, unit: Unit },
    OutOfRange { key: &'static str, given: u64, min: u64, max: u64, unit: Unit },
}

impl fmt::Display for LimitOverrideError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKey { key } => {
                let keys: Vec<_> = Limit::ALL.iter().map(|l| l.spec().key).collect();
                write!(f, "`limits.{key}` is no limit; there are {}", keys.join(", "))
            }
            Self::NotAQuantity { key, given, unit } => {
                let example = match unit {
                    Unit::Bytes => "\"128MiB\"",
                    Unit::Milliseconds => "\"50ms\" or \"30s\"",
                    Unit::Count => "1000",
                };
                write!(f, "`limits.{key}`: `{given}` is not understood; write it like {example}")
            }
            Self::OutOfRange { key, given, min, max, unit } => write!(
                f,
                "`limits.{key}`: {given} is out of range; it takes {min} to {max} {}",
                if *unit == Unit::Count { "" } else { unit.as_str() }
            ),
        }
    }
}

impl std::error::Error for LimitOverrideError {}

impl Limits {
    /// Sets one limit from its configuration key and text such as `"64MiB"`, `"2s"` or `"500"`.
    pub fn set_key(&mut self, key: &str, text: &str) -> Result<(), LimitOverrideError> {
        let limit = Limit::ALL
            .iter()
            .copied()
            .find(|l| l.spec().key == key)
            .ok_or_else(|| LimitOverrideError::UnknownKey { key: key.to_owned() })?;
        let spec = limit.spec();
        let value =
            parse_quantity(text, spec.unit).ok_or_else(|| LimitOverrideError::NotAQuantity {
                key: spec.key,
                given: text.to_owned(),
                unit: spec.unit,
            })?;
        if !(spec.min..=spec.max).contains(&value) {
            return Err(LimitOverrideError::OutOfRange {
                key: spec.key,
                given: value,
                min: spec.min,
                max: spec.max,
                unit: spec.unit,
            });
        }
        self.set(limit, value);
        Ok(())
    }
}

/// Reads `128MiB`, `1500`, `30s`, `2m` and the like into bytes, milliseconds or a count.
///
/// A bare number is in the unit itself. `None` when it is not understood or overflows.
pub fn parse_quantity(text: &str, unit: Unit) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let factor = match (unit, text[digits..].trim()) {
        (_, "") => 1,
        (Unit::Bytes, "B" | "b") => 1,
        (Unit::Bytes, "KiB" | "K" | "k") => KIB,
        (Unit::Bytes, "MiB" | "M") => MIB,
        (Unit::Bytes, "GiB" | "G") => KIB * MIB,
        (Unit::Bytes, "kB" | "KB") => 1_000,
        (Unit::Bytes, "MB") => 1_000_000,
        (Unit::Bytes, "GB") => 1_000_000_000,
        (Unit::Milliseconds, "ms") => 1,
        (Unit::Milliseconds, "s") => 1_000,
        (Unit::Milliseconds, "m" | "min") => 60_000,
        (Unit::Milliseconds, "h") => 3_600_000,
        _ => return None,
    };
    number.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_have_units() {
        assert_eq!(parse_quantity("128MiB", Unit::Bytes), Some(128 * MIB));
        assert_eq!(parse_quantity("1 kB", Unit::Bytes), Some(1_000));
        assert_eq!(parse_quantity("2m", Unit::Milliseconds), Some(120_000));
        assert_eq!(parse_quantity("17", Unit::Count), Some(17));
        for bad in ["", "MiB", "-1", "1.5s", "1 parsec", "99999999999999999999"] {
            assert_eq!(parse_quantity(bad, Unit::Milliseconds), None, "{bad}");
        }
        assert_eq!(parse_quantity("18446744073709551615GiB", Unit::Bytes), None);
    }

    #[test]
    fn a_limit_outside_its_range_is_refused_by_name() {
        let mut limits = Limits::default();
        let error = limits.set_key("heap", "1MiB").unwrap_err();
        assert!(error.to_string().contains("limits.heap"), "{error}");
        assert_eq!(limits, Limits::default());
        let error = limits.set_key("hep", "1MiB").unwrap_err();
        assert!(error.to_string().contains("heap"), "{error}");
    }

    #[test]
    fn defaults_are_within_their_own_ranges_and_codes_are_unique() {
        let mut codes = std::collections::HashSet::new();
        for limit in Limit::ALL {
            let spec = limit.spec();
            assert!((spec.min..=spec.max).contains(&spec.default), "{limit}");
            assert!(codes.insert(spec.code), "{}", spec.code);
        }
    }
}
