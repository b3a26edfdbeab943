//! A network as far as messages between two ranks see it.

use std::str::FromStr;

use clap::{Args, ValueEnum};
use serde::Serialize;

/// Networks with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// 1 Gbit/s Ethernet, TCP: 50 us, 94 % of the rate
    #[value(name = "ethernet-1g")]
    Ethernet1g,
    /// 10 Gbit/s Ethernet, TCP: 30 us, 94 % of the rate
    #[value(name = "ethernet-10g")]
    Ethernet10g,
    /// 200 Gbit/s InfiniBand: 2 us, 95 % of the rate, moves messages while ranks compute
    #[value(name = "infiniband-200g")]
    Infiniband200g,
}

/// Which network; the flags win over the preset.
#[derive(Debug, Clone, Default, Args)]
pub struct NetworkArguments {
    /// Network to predict for
    #[arg(long, value_enum, value_name = "PRESET", help_heading = "Time")]
    pub network: Option<Preset>,
    /// Time that a short message takes between two ranks, such as 50us
    #[arg(long, value_name = "TIME", help_heading = "Time")]
    pub latency: Option<Latency>,
    /// Bits or bytes of messages a second that each rank can send and receive at a time, such as 1Gbit or 100MB
    #[arg(long, value_name = "RATE", help_heading = "Time")]
    pub bandwidth: Option<Bandwidth>,
}

/// Seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Latency(pub f64);

/// Bytes a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bandwidth(pub f64);

/// A number and a unit: the number times the unit's size.
fn number_with_unit(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    let end = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = (text[..end].trim().parse::<f64>().ok()?, &text[end..]);
    let (_, size) = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
    Some(number * size).filter(|value| value.is_finite())
}

impl FromStr for Latency {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        number_with_unit(text, &[("ns", 1e-9), ("us", 1e-6), ("ms", 1e-3), ("s", 1.0)])
            .filter(|seconds| (0.0..=10.0).contains(seconds))
            .map(Latency)
            .ok_or_else(|| {
                format!("a time up to 10 s in ns, us, ms or s is needed, such as 50us, not '{text}'")
            })
    }
}

impl FromStr for Bandwidth {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let units = [
            ("kbit", 1e3 / 8.0),
            ("Mbit", 1e6 / 8.0),
            ("Gbit", 1e9 / 8.0),
            ("Tbit", 1e12 / 8.0),
            ("kB", 1e3),
            ("MB", 1e6),
            ("GB", 1e9),
        ];
        number_with_unit(text, &units).filter(|bytes| (1.0..=1e15).contains(bytes)).map(Bandwidth).ok_or_else(|| {
            format!("a rate in kbit, Mbit, Gbit, Tbit, kB, MB or GB (a second) is needed, such as 1Gbit, not '{text}'")
        })
    }
}

/// What a message takes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Network {
    /// Seconds that a short message takes.
    pub latency: f64,
    /// Bytes of messages a second that a rank can send, and receive, at a time.
    pub bandwidth: f64,
    /// Bytes of a message that move while a rank computes, from one call of MPI to the next: what the buffers of sockets
    /// hold. Infinite where the network moves messages by itself. The rest moves while both ranks wait.
    #[serde(skip)]
    pub window: f64,
}

/// Bytes that leave from one call of MPI over TCP to the next.
const SOCKET_WINDOW: f64 = 2.5e6;

impl Network {
    /// A network that takes no time at all.
    pub const FREE: Network = Network { latency: 0.0, bandwidth: f64::INFINITY, window: f64::INFINITY };

    /// Of the flags; none where there are none.
    ///
    /// # Errors
    /// Half of a network.
    pub fn of(arguments: &NetworkArguments) -> Result<Option<Network>, String> {
        let NetworkArguments { network, latency, bandwidth } = arguments;
        let preset = network.map(Network::named);
        let latency = latency.map(|Latency(seconds)| seconds).or(preset.map(|of| of.latency));
        let bandwidth = bandwidth.map(|Bandwidth(bytes)| bytes).or(preset.map(|of| of.bandwidth));
        let window = preset.map_or(SOCKET_WINDOW, |of| of.window);
        match (latency, bandwidth) {
            (Some(latency), Some(bandwidth)) => Ok(Some(Network { latency, bandwidth, window })),
            (None, None) => Ok(None),
            _ => Err("--latency and --bandwidth go together; or take a preset by --network".into()),
        }
    }

    fn named(preset: Preset) -> Network {
        match preset {
            Preset::Ethernet1g => Network { latency: 50e-6, bandwidth: 0.94e9 / 8.0, window: SOCKET_WINDOW },
            Preset::Ethernet10g => Network { latency: 30e-6, bandwidth: 9.4e9 / 8.0, window: SOCKET_WINDOW },
            Preset::Infiniband200g => {
                Network { latency: 2e-6, bandwidth: 190e9 / 8.0, window: f64::INFINITY }
            }
        }
    }

    /// Seconds that `ranks` ranks take to add up numbers, of which each has so many bytes: halved from step to step and
    /// put together again.
    pub fn sum(&self, ranks: usize, bytes: f64) -> f64 {
        let ranks = ranks.max(1);
        let steps = f64::from(ranks.next_power_of_two().ilog2());
        2.0 * steps * self.latency + 2.0 * bytes * (1.0 - 1.0 / ranks as f64) / self.bandwidth
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn units_are_read() {
        for (text, seconds) in [("50us", 50e-6), ("1.5ms", 1.5e-3), ("0s", 0.0), ("800 ns", 800e-9)] {
            let Latency(found) = text.parse().unwrap();
            assert!((found - seconds).abs() <= 1e-12 * seconds, "{text}: {found}");
        }
        for (text, bytes) in [("1Gbit", 1.25e8), ("100MB", 1e8), ("10mbit", 1.25e6), ("2GB", 2e9)] {
            assert_eq!(text.parse(), Ok(Bandwidth(bytes)), "{text}");
        }
        for wrong in ["", "50", "us", "-1us", "1e9s", "nan s", "1 parsec", "ä"] {
            assert!(wrong.parse::<Latency>().is_err(), "{wrong}");
        }
        for wrong in ["", "1", "0Gbit", "-1MB", "infGB", "1e30GB"] {
            assert!(wrong.parse::<Bandwidth>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn flags_win_over_presets() {
        let of = |network, latency, bandwidth| Network::of(&NetworkArguments { network, latency, bandwidth });
        assert_eq!(of(None, None, None), Ok(None));
        assert!(of(None, Some(Latency(1.0)), None).is_err());
        let preset = of(Some(Preset::Infiniband200g), Some(Latency(1e-5)), None).unwrap().unwrap();
        assert_eq!((preset.latency, preset.bandwidth, preset.window), (1e-5, 23.75e9, f64::INFINITY));
    }
}
