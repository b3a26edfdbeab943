//! How commands show how far they are: a bar on a terminal, lines in a log, and times for people. Nothing is decided by
//! them.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, Write};
use std::rc::Rc;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle, TermLike};

/// Columns of a terminal whose width is not known.
const COLUMNS: u16 = 100;
/// Times a second that the bar is drawn where a launcher passes it on.
const RATE: u8 = 5;
/// Seconds before a command first shows how far it is: who waits less needs no telling.
const PATIENCE: f64 = 2.0;
/// The fewest seconds between two lines.
const PAUSE: f64 = 10.0;
/// The share of the time so far that passes between two lines of a command that lasts long.
const PAUSE_SHARE: f64 = 0.1;

/// How far a long command is, for people: by a bar, or by lines with the time left. A command that ends soon shows
/// nothing. A clone shows at the same place.
#[derive(Clone, Default)]
pub struct Steps {
    shown: Option<Rc<RefCell<Shown>>>,
}

/// Where it is shown.
enum View {
    Bar(Bar),
    Lines(Box<dyn Write>),
}

struct Shown {
    view: View,
    /// Seconds since any moment.
    clock: Box<dyn Fn() -> f64>,
    doing: String,
    /// When the work began.
    start: f64,
    /// When to show next.
    due: f64,
    done: usize,
    all: usize,
}

impl Steps {
    /// Shows nothing.
    pub fn silent() -> Self {
        Self::default()
    }

    /// Shows a bar on standard output, wherever that leads.
    pub fn with_bar() -> Self {
        Self::new(View::Bar(Bar::default()), clock())
    }

    /// Prints lines to standard error: standard output is for results.
    pub fn with_lines() -> Self {
        Self::new(View::Lines(Box::new(io::stderr())), clock())
    }

    fn new(view: View, clock: Box<dyn Fn() -> f64>) -> Self {
        let start = clock();
        let shown =
            Shown { view, clock, doing: String::new(), start, due: start + PATIENCE, done: 0, all: 0 };
        Self { shown: Some(Rc::new(RefCell::new(shown))) }
    }

    /// The work begins: so much of it, in any unit of about equal time.
    pub(crate) fn begin(&self, all: usize) {
        if let Some(shown) = &self.shown {
            let mut shown = shown.borrow_mut();
            (shown.start, shown.done, shown.all) = ((shown.clock)(), 0, all);
        }
    }

    /// Says what is done from now on.
    pub(crate) fn doing(&self, what: impl Into<String>) {
        if let Some(shown) = &self.shown {
            shown.borrow_mut().doing = what.into();
        }
    }

    /// So much more is done.
    pub(crate) fn advance(&self, work: usize) {
        if let Some(shown) = &self.shown {
            shown.borrow_mut().advance(work);
        }
    }
}

impl fmt::Debug for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Steps").finish_non_exhaustive()
    }
}

fn clock() -> Box<dyn Fn() -> f64> {
    let start = Instant::now();
    Box::new(move || start.elapsed().as_secs_f64())
}

impl Shown {
    fn advance(&mut self, work: usize) {
        self.done = self.done.saturating_add(work).min(self.all);
        let now = (self.clock)();
        if now < self.due {
            return;
        }
        let passed = now - self.start;
        let left = time(seconds_left(passed, self.done, self.all));
        match &mut self.view {
            View::Bar(bar) => {
                bar.show(self.done, self.all, format!("{}, {left} left", self.doing));
                self.due = now + 1.0 / f64::from(RATE);
            }
            View::Lines(target) => {
                let percent = (self.done as f64 / self.all.max(1) as f64 * 100.0).floor();
                // Nobody is there to be told when the output is closed.
                let _ = writeln!(target, "{}: {percent} %, {left} left", self.doing);
                self.due = now + PAUSE.max(PAUSE_SHARE * passed);
            }
        }
    }
}

/// A file whose bytes count as work when they are read.
pub(crate) struct Counted<R> {
    inner: R,
    steps: Steps,
}

impl<R> Counted<R> {
    pub fn new(inner: R, steps: &Steps) -> Self {
        Self { inner, steps: steps.clone() }
    }
}

impl<R: io::Read> io::Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.steps.advance(count);
        Ok(count)
    }
}

impl<R: io::Seek> io::Seek for Counted<R> {
    fn seek(&mut self, position: io::SeekFrom) -> io::Result<u64> {
        self.inner.seek(position)
    }
}

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
        // Each call may draw: the text comes first, so that no bar is without.
        shown.set_message(text);
        shown.set_length(all as u64);
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
#[allow(clippy::unwrap_used)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// What is written to a shared place, and the time that a test sets.
    #[derive(Clone, Default)]
    struct Log(Rc<RefCell<Vec<u8>>>, Rc<Cell<f64>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Log {
        fn steps(&self) -> Steps {
            let time = self.1.clone();
            Steps::new(View::Lines(Box::new(self.clone())), Box::new(move || time.get()))
        }

        fn lines(&self) -> Vec<String> {
            String::from_utf8_lossy(&self.0.borrow()).lines().map(str::to_owned).collect()
        }
    }

    #[test]
    fn what_ends_soon_prints_nothing() {
        let log = Log::default();
        let steps = log.steps();
        steps.begin(4);
        steps.doing("reading");
        for second in [0.5, 1.0, 1.5, 1.9] {
            log.1.set(second);
            steps.advance(1);
        }
        assert_eq!(log.lines(), [""; 0]);
        Steps::silent().advance(1);
    }

    #[test]
    fn lines_tell_what_is_left_and_become_rarer() {
        let log = Log::default();
        let steps = log.steps();
        log.1.set(1.0);
        steps.begin(1_000);
        steps.doing("reading");
        for second in 2..=1_000 {
            log.1.set(f64::from(second));
            if second == 500 {
                steps.doing("writing");
            }
            steps.advance(1);
        }
        let lines = log.lines();
        assert_eq!(lines[0], "reading: 0 %, 16m39s left");
        assert_eq!(lines[1], "reading: 1 %, 16m29s left", "10 s later");
        assert!(lines.last().unwrap().starts_with("writing: "), "{lines:?}");
        assert!((25..40).contains(&lines.len()), "{lines:?}");
    }

    #[test]
    fn work_beyond_what_was_expected_is_no_harm() {
        let log = Log::default();
        let steps = log.steps();
        log.1.set(3.0);
        steps.advance(7);
        steps.begin(5);
        log.1.set(20.0);
        steps.advance(usize::MAX);
        steps.advance(usize::MAX);
        assert_eq!(log.lines(), [": 0 %, - left", ": 100 %, 0s left"]);
    }

    #[test]
    fn bytes_that_are_read_count() {
        let log = Log::default();
        let steps = log.steps();
        steps.begin(8);
        steps.doing("reading");
        log.1.set(4.0);
        let mut file = Counted::new(&b"abcd"[..], &steps);
        assert_eq!(io::read_to_string(&mut file).unwrap(), "abcd");
        assert_eq!(log.lines(), ["reading: 50 %, 4s left"]);
    }

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
