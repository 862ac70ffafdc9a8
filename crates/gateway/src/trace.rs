//! W3C Trace Context: reads `traceparent`, makes the span of this request.

use http::HeaderMap;
use verge_types::TraceContext;

use crate::headers::{Survey, TRACEPARENT};
use crate::ids;

/// The caller's trace continued, or a new one where the caller sent none or a broken one.
pub fn context(headers: &HeaderMap, survey: &Survey) -> TraceContext {
    let span_id = ids::next();
    let given = survey.traceparent.then(|| headers.get(TRACEPARENT)).flatten();
    let given = given.and_then(|value| parse(value.as_bytes()));
    match given {
        Some((trace_id, parent, sampled)) => {
            TraceContext { trace_id, span_id, parent_id: Some(parent), sampled }
        }
        None => TraceContext {
            trace_id: u128::from(ids::next()) << 64 | u128::from(ids::next()),
            span_id,
            parent_id: None,
            sampled: false,
        },
    }
}

/// `version-trace-parent-flags` in lower-case hex; a later version may have more fields.
fn parse(value: &[u8]) -> Option<(u128, u64, bool)> {
    let hex = |from: usize, len: usize| -> Option<u128> {
        let digits = value.get(from..from + len)?;
        digits.iter().try_fold(0u128, |n, b| {
            let digit = match b {
                b'0'..=b'9' => b - b'0',
                b'a'..=b'f' => b - b'a' + 10,
                _ => return None,
            };
            Some(n << 4 | u128::from(digit))
        })
    };
    let dash = |at: usize| value.get(at) == Some(&b'-');
    let version = hex(0, 2)?;
    let end = match version {
        0xff => return None,
        0 => value.len() == 55,
        _ => value.len() == 55 || dash(55),
    };
    if !(end && dash(2) && dash(35) && dash(52)) {
        return None;
    }
    let (trace, parent, flags) = (hex(3, 32)?, hex(36, 16)? as u64, hex(53, 2)?);
    (trace != 0 && parent != 0).then_some((trace, parent, flags & 1 == 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_well_formed_parents_are_taken() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(
            parse(good.as_bytes()),
            Some((0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, 0x00f0_67aa_0ba9_02b7, true))
        );
        assert!(parse(format!("01{}-later", &good[2..]).as_bytes()).is_some());
        for bad in [
            "",
            "00",
            &good[..54],
            &format!("{good}-x"),
            &good.to_uppercase(),
            &good.replacen("00", "ff", 1),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-01",
        ] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
