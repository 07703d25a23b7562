//! Durations and times as crabbox writes them.

use jiff::Timestamp;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A duration as crabbox prints it, rounded to milliseconds: `1h30m0s`, `4.55s`, `365ms`, `0s`.
#[must_use]
pub fn go_duration(duration: Duration) -> String {
    let millis = (duration.as_nanos() + 500_000) / 1_000_000;
    if millis == 0 {
        return "0s".to_owned();
    }
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let (seconds, rest) = (millis / 1000, millis % 1000);
    let mut out = String::new();
    if seconds >= 3600 {
        out.push_str(&format!("{}h", seconds / 3600));
    }
    if seconds >= 60 {
        out.push_str(&format!("{}m", seconds / 60 % 60));
    }
    out.push_str(&(seconds % 60).to_string());
    if rest > 0 {
        let digits = format!(".{rest:03}");
        out.push_str(digits.trim_end_matches('0'));
    }
    out.push('s');
    out
}

/// Reads a duration in crabbox's notation: numbers with the units `ns`, `us`, `ms`, `s`, `m`, `h`, in any order
/// (`90m`, `1h30m`, `1.5h`, `300ms`), or `0`. `None` for anything else, for negative ones and on overflow.
#[must_use]
pub fn parse_go_duration(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => digits(after),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let nanos: u128 = match unit {
            "ns" => 1,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let count: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        total = total.checked_add(count.checked_mul(nanos)?)?;
        // Eighteen digits of a fraction are more than a nanosecond of the largest unit.
        let fraction = &fraction[..fraction.len().min(18)];
        if !fraction.is_empty() {
            let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
            total = total.checked_add(fraction.parse::<u128>().ok()?.checked_mul(nanos)? / scale)?;
        }
        rest = after;
    }
    // crabbox's durations are 64-bit nanoseconds; what it cannot read, we do not read either.
    i64::try_from(total).ok()?;
    Some(Duration::from_nanos(u64::try_from(total).ok()?))
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// A time as claims hold it: RFC 3339 in UTC with second precision, `2026-08-21T09:14:07Z`.
/// Times outside the years 1 to 9999 are moved to the nearest end.
#[must_use]
pub fn rfc3339(time: SystemTime) -> String {
    let second = unix(time).clamp(-62_135_596_800, 253_402_207_200);
    Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}

/// Seconds since 1970, as labels hold them, as RFC 3339.
#[must_use]
pub fn moment(unix: i64) -> String {
    rfc3339(UNIX_EPOCH + Duration::from_secs(u64::try_from(unix).unwrap_or(0)))
}

/// Reads an RFC 3339 time, with or without fraction, in any offset.
#[must_use]
pub fn parse_rfc3339(text: &str) -> Option<SystemTime> {
    // The reader of timestamps also takes a blank between date and time, which crabbox does not.
    if text.as_bytes().get(10) != Some(&b'T') {
        return None;
    }
    text.parse::<Timestamp>().ok().map(SystemTime::from)
}

/// Whole seconds since 1970 in UTC, rounded down.
#[must_use]
pub fn unix(time: SystemTime) -> i64 {
    let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => seconds(after),
        Err(before) => {
            let before = before.duration();
            -seconds(before) - i64::from(before.subsec_nanos() > 0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_print_like_crabbox() {
        for (millis, text) in [
            (0, "0s"),
            (1, "1ms"),
            (365, "365ms"),
            (4_550, "4.55s"),
            (4_000, "4s"),
            (30_000, "30s"),
            (60_000, "1m0s"),
            (90_500, "1m30.5s"),
            (1_800_000, "30m0s"),
            (5_400_000, "1h30m0s"),
            (3_600_000, "1h0m0s"),
            (172_800_001, "48h0m0.001s"),
        ] {
            assert_eq!(go_duration(Duration::from_millis(millis)), text);
            assert_eq!(parse_go_duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(parse_go_duration("1500ns"), Some(Duration::from_nanos(1500)));
        for micro in ["2us", "2\u{b5}s", "2\u{3bc}s"] {
            assert_eq!(parse_go_duration(micro), Some(Duration::from_micros(2)), "{micro}");
        }
        assert_eq!(go_duration(Duration::from_micros(499)), "0s");
        assert_eq!(go_duration(Duration::from_micros(999_500)), "1s");
    }

    #[test]
    fn durations_parse_like_crabbox() {
        for (text, millis) in [
            ("90m", 5_400_000),
            ("1h30m", 5_400_000),
            ("1.5h", 5_400_000),
            (".5s", 500),
            ("5.s", 5_000),
            ("+2s", 2_000),
            ("0", 0),
            ("1s2h", 7_201_000),
        ] {
            assert_eq!(parse_go_duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for bad in [
            "",
            "+",
            "-1s",
            "1",
            "s",
            ".s",
            "1d",
            "1h 30m",
            "1 h",
            "3000000h",
            "99999999999999999999999999999999999999999h",
            "1e3s",
        ] {
            assert_eq!(parse_go_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn times() {
        let time = UNIX_EPOCH + Duration::from_millis(1_787_303_647_999);
        assert_eq!(rfc3339(time), "2026-08-21T09:14:07Z");
        assert_eq!(unix(time), 1_787_303_647);
        assert_eq!(parse_rfc3339("2026-08-21T11:14:07.5+02:00").map(unix), Some(1_787_303_647));
        assert_eq!(moment(1_787_303_647), "2026-08-21T09:14:07Z");
        assert_eq!(moment(-1), "1970-01-01T00:00:00Z");
        for (millis, second) in [(1, -1), (1_000, -1), (2_500, -3)] {
            assert_eq!(unix(UNIX_EPOCH - Duration::from_millis(millis)), second, "{millis} ms before 1970");
        }
        for bad in ["", "2026-08-21", "2026-08-21 09:14:07Z", "2026-08-21T09:14:07"] {
            assert_eq!(parse_rfc3339(bad), None, "{bad}");
        }
    }
}
