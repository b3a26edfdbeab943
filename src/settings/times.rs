//! Times as users write them: `90s`, `10m`, `23h50m`, `2d`; and how often checkpoints are written.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

/// Units in the order in which they are written, in seconds.
const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];
/// Ten years; anything longer is a slip of the pen.
const LONGEST: u64 = 3_650 * 86_400;
/// The word that switches a limit off, so that a flag can undo what a file says.
const OFF: &str = "off";

/// A text that is no time.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("\"{found}\": expected {expected}")]
pub struct TimeError {
    found: String,
    expected: &'static str,
}

/// The longest that a run may take before it stops by itself; `None`: as long as it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Given", into = "String")]
pub struct MaxTime(pub Option<Duration>);

/// When checkpoints are written besides the one of a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Given", into = "String")]
pub enum CheckpointEvery {
    /// Only when the run is stopped.
    #[default]
    Never,
    /// After each multiple of so many iterations, counted over all stages.
    Iterations(u64),
    /// So long after the one before, by the clock of rank 0.
    Time(Duration),
}

/// Whole numbers with units, largest unit first, each at most once.
fn parse_time(text: &str) -> Option<Duration> {
    let (mut seconds, mut rest, mut units) = (0u64, text, UNITS.as_slice());
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        let unit = rest[digits..].chars().next()?;
        let at = units.iter().position(|(name, _)| *name == unit)?;
        seconds = seconds.checked_add(number.checked_mul(units[at].1)?)?;
        (rest, units) = (&rest[digits + unit.len_utf8()..], &units[at + 1..]);
    }
    (1..=LONGEST).contains(&seconds).then(|| Duration::from_secs(seconds))
}

/// Seconds from a time with units, a bare number of seconds, or off, which is 0.
pub(super) fn parse_seconds(text: &str) -> Result<u64, TimeError> {
    let wrong = || TimeError {
        found: text.to_owned(),
        expected: "a time such as 90s, 10m or 1h30m (units d, h, m, s in this order), or a whole number of seconds, at most 3650d; \
                   or off",
    };
    match text.parse() {
        Ok(seconds) => Some(seconds).filter(|&seconds| seconds <= LONGEST).ok_or_else(wrong),
        Err(_) if text == OFF => Ok(0),
        Err(_) => parse_time(text).map(|time| time.as_secs()).ok_or_else(wrong),
    }
}

/// A value of a file, for the parsers of texts to judge.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a time in quotes, such as \"10m\"")]
enum Given {
    Whole(i64),
    Number(f64),
    Text(String),
}

impl Given {
    fn text(self) -> String {
        match self {
            Given::Whole(number) => number.to_string(),
            // With its point, which flags do not take.
            Given::Number(number) => format!("{number:?}"),
            Given::Text(text) => text,
        }
    }
}

/// As [`parse_seconds`], from a value of a file: a whole number or a text.
pub(super) fn read_seconds<'de, D: Deserializer<'de>>(file: D) -> Result<Option<u64>, D::Error> {
    parse_seconds(&Given::deserialize(file)?.text()).map(Some).map_err(D::Error::custom)
}

fn write_time(f: &mut fmt::Formatter<'_>, time: Duration) -> fmt::Result {
    let mut left = time.as_secs();
    for (unit, length) in UNITS {
        if left >= length {
            write!(f, "{}{unit}", left / length)?;
            left %= length;
        }
    }
    Ok(())
}

impl FromStr for MaxTime {
    type Err = TimeError;
    fn from_str(text: &str) -> Result<Self, TimeError> {
        let expected = "a time with units (d, h, m, s in this order) such as 90s, 30m or 23h50m, from 1s to 3650d, or off";
        match text {
            OFF => Ok(Self(None)),
            _ => parse_time(text)
                .map(|time| Self(Some(time)))
                .ok_or_else(|| TimeError { found: text.to_owned(), expected }),
        }
    }
}

impl fmt::Display for MaxTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str(OFF),
            Some(time) => write_time(f, time),
        }
    }
}

impl FromStr for CheckpointEvery {
    type Err = TimeError;
    fn from_str(text: &str) -> Result<Self, TimeError> {
        let expected = "a time with units (d, h, m, s in this order) such as 10m or 1h30m, from 1s to 3650d, iterations such as \
                        200it, from 1it, or off";
        let wrong = || TimeError { found: text.to_owned(), expected };
        match text.strip_suffix("it") {
            _ if text == OFF => Ok(Self::Never),
            Some(count) => {
                count.parse().ok().filter(|&count| count > 0).map(Self::Iterations).ok_or_else(wrong)
            }
            None => parse_time(text).map(Self::Time).ok_or_else(wrong),
        }
    }
}

impl fmt::Display for CheckpointEvery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => f.write_str(OFF),
            Self::Iterations(count) => write!(f, "{count}it"),
            Self::Time(time) => write_time(f, *time),
        }
    }
}

macro_rules! as_text {
    ($($name:ty),*) => { $(
        impl TryFrom<Given> for $name {
            type Error = TimeError;
            fn try_from(given: Given) -> Result<Self, TimeError> {
                given.text().parse()
            }
        }
        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.to_string()
            }
        }
    )* };
}
as_text!(MaxTime, CheckpointEvery);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn times_read_back_as_written() {
        for (text, seconds) in [("90s", 90), ("10m", 600), ("23h50m", 85_800), ("1d1s", 86_401)] {
            let time: MaxTime = text.parse().unwrap();
            assert_eq!(time, MaxTime(Some(Duration::from_secs(seconds))));
            assert_eq!(time.to_string().parse::<MaxTime>().unwrap(), time);
        }
        assert_eq!("200it".parse(), Ok(CheckpointEvery::Iterations(200)));
        assert_eq!("1h30m".parse(), Ok(CheckpointEvery::Time(Duration::from_secs(5_400))));
        assert_eq!("off".parse(), Ok(CheckpointEvery::Never));
        assert_eq!(CheckpointEvery::Iterations(7).to_string(), "7it");
        assert_eq!("90s".parse::<MaxTime>().unwrap().to_string(), "1m30s");
    }

    #[test]
    fn seconds_need_no_unit() {
        for (text, seconds) in
            [("600", 600), ("0", 0), ("off", 0), ("10m", 600), ("1h30m", 5_400), ("90s", 90)]
        {
            assert_eq!(parse_seconds(text), Ok(seconds), "{text}");
        }
        for text in ["", "-1", "1.5", "10x", "99999999999999999999", "4000d", "345600000"] {
            assert!(parse_seconds(text).is_err(), "{text}");
        }
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(rename_all = "kebab-case", default)]
    struct File {
        #[serde(deserialize_with = "read_seconds")]
        comm_timeout: Option<u64>,
        max_time: MaxTime,
        checkpoint_every: CheckpointEvery,
    }

    #[test]
    fn files_are_judged_as_flags_are() {
        let read = |text: &str| toml::from_str::<File>(text);
        assert_eq!(read("comm-timeout = 600").unwrap().comm_timeout, Some(600));
        assert_eq!(read("comm-timeout = \"10m\"").unwrap().comm_timeout, Some(600));
        let file = read("max-time = \"10m\"\ncheckpoint-every = \"5it\"").unwrap();
        assert_eq!(
            (file.max_time.to_string().as_str(), file.checkpoint_every),
            ("10m", CheckpointEvery::Iterations(5))
        );
        let longest = format!("{}d", LONGEST / 86_400);
        for key in ["comm-timeout", "max-time", "checkpoint-every"] {
            for value in ["-1", "1.5", "600.0", "4000000000", "\"-1s\"", "\"4000d\""] {
                let told = read(&format!("{key} = {value}")).unwrap_err().to_string();
                let found = value.trim_matches('"');
                let words = [found, "expected a time", "d, h, m, s", &longest, "or off"];
                assert!(words.iter().all(|word| told.contains(word)), "{key} = {value}: {told}");
            }
            let told = read(&format!("{key} = true")).unwrap_err().to_string();
            assert!(told.contains("expected a time in quotes"), "{told}");
        }
        for text in ["max-time = 600", "checkpoint-every = 600"] {
            let told = read(text).unwrap_err().to_string();
            assert!(told.contains("\"600\": expected a time with units"), "{told}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in
            ["", "0s", "10", "m", "5x", "10m1h", "3m3m", "-1s", "1.5h", "4000d", "99999999999999999999s"]
        {
            assert!(text.parse::<MaxTime>().is_err(), "{text}");
            assert!(text.parse::<CheckpointEvery>().is_err(), "{text}");
        }
        for text in ["0it", "it", "-3it", "1.5it", "é"] {
            assert!(text.parse::<CheckpointEvery>().is_err(), "{text}");
        }
    }
}
