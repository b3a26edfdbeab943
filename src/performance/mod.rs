//! Seconds an iteration on machines and networks that are not there: from what iterations have cost ranks, bytes, and a
//! network's latency and bandwidth.
//!
//! [`rates`] reads what a measured run cost and divides it by what was computed and sent; [`forecast`] multiplies it
//! with the shapes of other plans; [`pipeline`] lets ranks work, send and wait as an iteration does, over a [`network`].

pub mod forecast;
pub mod network;
pub mod pipeline;
pub mod rates;

pub use forecast::{TimeForecast, TimeRow};
pub use network::Network;
pub use rates::{Rates, RatesError};
