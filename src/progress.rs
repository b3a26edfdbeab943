//! How commands show how far they are: a bar on a terminal, and times for people. Nothing is decided by them.

use std::io::{self, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle, TermLike};

/// Columns of a terminal whose width is not known.
const COLUMNS: u16 = 100;
/// Times a second that the bar is drawn where a launcher passes it on.
const RATE: u8 = 5;

/// The bar below the lines on standard output.
#[derive(Debug, Default)]
pub(crate) struct Bar {
    shown: Option<ProgressBar>,
}

impl Bar {
    /// Shows that `place` of `all` is done, with a text at the end of the bar.
    pub fn show(&mut self, place: usize, all: usize, text: String) {
        let shown = self.shown.get_or_insert_with(|| {
            use io::IsTerminal;
            let target = match io::stdout().is_terminal() {
                true => ProgressDrawTarget::stdout(),
                false => ProgressDrawTarget::term_like_with_hz(Box::new(PassedOn), RATE),
            };
            let style = ProgressStyle::with_template("[{wide_bar}] {msg}");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ");
            ProgressBar::with_draw_target(Some(all as u64), target)
                .with_style(style)
                .with_finish(ProgressFinish::AndClear)
        });
        shown.set_message(text);
        shown.set_position(place as u64);
    }

    /// Takes the bar away while `print` prints.
    pub fn aside(&self, print: impl FnOnce()) {
        match &self.shown {
            Some(shown) => shown.suspend(print),
            None => print(),
        }
    }

    /// Takes the bar away for good.
    pub fn end(&mut self) {
        if let Some(shown) = self.shown.take() {
            shown.finish_and_clear();
        }
    }
}

/// Standard output that reaches a terminal by way of a launcher.
#[derive(Debug)]
struct PassedOn;

impl PassedOn {
    fn write(text: std::fmt::Arguments<'_>) -> io::Result<()> {
        io::stdout().write_fmt(text)
    }

    fn move_by(n: usize, direction: char) -> io::Result<()> {
        if n > 0 { Self::write(format_args!("\x1b[{n}{direction}")) } else { Ok(()) }
    }
}

impl TermLike for PassedOn {
    fn width(&self) -> u16 {
        COLUMNS
    }
    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        Self::move_by(n, 'A')
    }
    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        Self::move_by(n, 'B')
    }
    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        Self::move_by(n, 'C')
    }
    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        Self::move_by(n, 'D')
    }
    fn write_line(&self, text: &str) -> io::Result<()> {
        Self::write(format_args!("{text}\n"))
    }
    fn write_str(&self, text: &str) -> io::Result<()> {
        Self::write(format_args!("{text}"))
    }
    fn clear_line(&self) -> io::Result<()> {
        Self::write(format_args!("\r\x1b[2K"))
    }
    fn flush(&self) -> io::Result<()> {
        io::stdout().flush()
    }
}

/// Seconds left when `done` of `all` took `seconds`, with parts that take alike; not known before the first is done.
pub(crate) fn seconds_left(seconds: f64, done: usize, all: usize) -> Option<f64> {
    (done > 0).then(|| seconds / done as f64 * all.saturating_sub(done) as f64)
}

/// A time for people, rounded to two units: `45s`, `3m05s`, `2h10m`, `1d04h`; `-` where it is not known.
pub(crate) fn time(seconds: Option<f64>) -> String {
    let Some(seconds) = seconds.filter(|seconds| seconds.is_finite()) else { return "-".to_owned() };
    let seconds = seconds.max(0.0).round() as u64;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_known_after_the_first_part() {
        assert_eq!(seconds_left(0.0, 0, 4), None);
        assert_eq!(seconds_left(10.0, 1, 4), Some(30.0));
        assert_eq!(seconds_left(40.0, 4, 4), Some(0.0));
    }

    #[test]
    fn times_are_short() {
        let times = [-1.0, 59.4, 185.0, 7_800.0, 100_800.0].map(|seconds| time(Some(seconds)));
        assert_eq!(times, ["0s", "59s", "3m05s", "2h10m", "1d04h"]);
        assert_eq!([time(None), time(Some(f64::NAN))], ["-", "-"]);
    }
}
