//! Times as responses spell them: RFC 3339, UTC, milliseconds.
//!
//! **Runs on** any thread; pure and free of allocation beyond `out`.
//!
//! **Not here**: clocks. Every time that is printed comes from the log.

/// Length of a printed time in bytes.
pub const RFC3339_LEN: usize = 24;

const MS_PER_DAY: i64 = 86_400_000;
/// 0000-01-01T00:00:00.000Z and 9999-12-31T23:59:59.999Z in Unix milliseconds.
const FIRST_MS: i64 = -62_167_219_200_000;
const LAST_MS: i64 = 253_402_300_799_999;

/// Appends `ms` (Unix milliseconds) as `2026-01-02T03:04:05.678Z`. Years outside 0..=9999 are clamped to the
/// first or the last printable instant.
pub fn rfc3339_millis(ms: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(&rfc3339(ms));
}

/// The printed form as an array, for callers that know where it goes.
pub(crate) fn rfc3339(ms: i64) -> [u8; RFC3339_LEN] {
    let ms = ms.clamp(FIRST_MS, LAST_MS);
    let (year, month, day) = civil(ms.div_euclid(MS_PER_DAY));
    let in_day = ms.rem_euclid(MS_PER_DAY) as u32;
    let (seconds, millis) = (in_day / 1000, in_day % 1000);
    let mut text = *b"0000-00-00T00:00:00.000Z";
    two(&mut text, 0, year / 100);
    two(&mut text, 2, year % 100);
    two(&mut text, 5, month);
    two(&mut text, 8, day);
    two(&mut text, 11, seconds / 3600);
    two(&mut text, 14, seconds / 60 % 60);
    two(&mut text, 17, seconds % 60);
    text[20] = b'0' + (millis / 100) as u8;
    two(&mut text, 21, millis % 100);
    text
}

/// Writes two decimal digits at `at`; `value` is below 100.
fn two(text: &mut [u8; RFC3339_LEN], at: usize, value: u32) {
    text[at] = b'0' + (value / 10) as u8;
    text[at + 1] = b'0' + (value % 10) as u8;
}

/// Year, month (1–12) and day (1–31) of a day counted from 1970-01-01, in the proleptic Gregorian calendar.
///
/// Years are counted from March, so that the leap day is the last of its year, in eras of 400 years, which
/// all have the same number of days.
fn civil(days: i64) -> (u32, u32, u32) {
    const DAYS_PER_ERA: i64 = 146_097;
    let shifted = days + 719_468;
    let era = shifted.div_euclid(DAYS_PER_ERA);
    let in_era = shifted.rem_euclid(DAYS_PER_ERA) as u32;
    let year_in_era = (in_era - in_era / 1460 + in_era / 36_524 - in_era / 146_096) / 365;
    let in_year = in_era - (365 * year_in_era + year_in_era / 4 - year_in_era / 100);
    let march_month = (5 * in_year + 2) / 153;
    let day = in_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + i64::from(year_in_era) + i64::from(month <= 2);
    (year as u32, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(ms: i64) -> String {
        let mut out = Vec::new();
        rfc3339_millis(ms, &mut out);
        String::from_utf8(out).expect("digits are ASCII")
    }

    #[test]
    fn golden_instants() {
        assert_eq!(print(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(print(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(print(1_767_323_045_678), "2026-01-02T03:04:05.678Z");
        assert_eq!(print(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(print(4_107_542_399_999), "2100-02-28T23:59:59.999Z");
        assert_eq!(print(4_107_542_400_000), "2100-03-01T00:00:00.000Z");
    }

    #[test]
    fn the_ends_are_clamped() {
        assert_eq!(print(FIRST_MS), "0000-01-01T00:00:00.000Z");
        assert_eq!(print(i64::MIN), "0000-01-01T00:00:00.000Z");
        assert_eq!(print(LAST_MS), "9999-12-31T23:59:59.999Z");
        assert_eq!(print(i64::MAX), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn every_day_follows_the_day_before() {
        let mut before = civil(-719_528);
        assert_eq!(before, (0, 1, 1));
        for day in -719_527..=2_932_896 {
            let now = civil(day);
            let next_day = (now.0, now.1) == (before.0, before.1) && now.2 == before.2 + 1;
            let next_month = now.0 == before.0 && now.1 == before.1 + 1 && now.2 == 1 && before.2 >= 28;
            let next_year =
                now.0 == before.0 + 1 && (now.1, now.2) == (1, 1) && (before.1, before.2) == (12, 31);
            assert!(next_day || next_month || next_year, "{before:?} then {now:?}");
            before = now;
        }
        assert_eq!(before, (9999, 12, 31));
    }
}
