//! Horizontal bars in groups, as SVG.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::PlotError;
use super::theme::{COLOURS, FONT, GRID, finish, plain};

const WIDTH: u32 = 640;
/// Room for the names of groups.
const NAMES: u32 = 160;
/// Room at the right end, for what stands beside the longest bar: a value, and a label by its characters.
const VALUES: u32 = 64;
const CHARACTER: u32 = 8;
/// Longest name of a group and longest label of a bar, in characters.
const LONGEST: usize = 20;
const BAR: i32 = 16;
const GAP: i32 = 12;
const AXIS: i32 = 52;
const TOP: i32 = 34;
/// What the axis can show.
const LARGEST: f64 = 1e15;

/// A bar.
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
    /// Its length, at least 0.
    pub value: f64,
    /// Smallest and largest of what it is the mean of.
    pub spread: Option<(f64, f64)>,
    /// Which of seven colours.
    pub colour: usize,
    /// What stands beside it after the value.
    pub label: String,
}

/// Bars that belong together.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// What stands beside them.
    pub name: String,
    /// From top to bottom.
    pub bars: Vec<Bar>,
}

/// The plot.
#[derive(Debug, Clone, PartialEq)]
pub struct BarPlot {
    /// Above it, where it stands alone.
    pub title: String,
    /// What the length of a bar is, with its unit.
    pub x_label: String,
    /// What to draw.
    pub groups: Vec<Group>,
}

impl BarPlot {
    /// The plot as an SVG document; `alone` where it is a file of its own, with its title.
    ///
    /// # Errors
    /// [`PlotError::Empty`] where no bar has a length.
    pub fn svg(&self, alone: bool) -> Result<String, PlotError> {
        let is_drawable = |x: f64| x > 0.0 && x <= LARGEST;
        let bars = || self.groups.iter().flat_map(|group| &group.bars);
        let ends = bars().flat_map(|bar| [bar.value, bar.spread.map_or(0.0, |spread| spread.1)]);
        let longest = ends.filter(|&x| is_drawable(x)).fold(0.0, f64::max);
        if longest < 1e-12 {
            return Err(PlotError::Empty);
        }
        let heights = self.groups.iter().map(|group| BAR * group.bars.len() as i32 + GAP);
        let inner: i32 = heights.sum();
        let size = (WIDTH, (TOP + inner + AXIS) as u32);
        let labels = bars().map(|bar| bar.label.chars().count()).max().unwrap_or(0).min(LONGEST);
        let values = VALUES + CHARACTER * labels as u32;
        let plot = ((NAMES as i32)..(WIDTH - values) as i32, TOP..TOP + inner);
        let mut text = String::new();
        {
            let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
            let failed = |error: DrawingAreaErrorKind<_>| PlotError::Drawing(format!("{error}"));
            root.fill(&WHITE).map_err(failed)?;
            let (left, right) = (f64::from(plot.0.start), f64::from(plot.0.end));
            let x = |value: f64| (left + (right - left) * value / longest).round() as i32;
            let style =
                |height: u32, h: HPos, v: VPos| (FONT, height).into_font().color(&BLACK).pos(Pos::new(h, v));
            let write = |text: String, at: (i32, i32), style| root.draw(&Text::new(text, at, style));
            if alone {
                let at = (WIDTH as i32 / 2, 8);
                write(self.title.clone(), at, style(20, HPos::Center, VPos::Top)).map_err(failed)?;
            }
            for tick in ticks(longest) {
                let x = x(tick);
                let line = PathElement::new([(x, plot.1.start), (x, plot.1.end)], GRID);
                root.draw(&line).map_err(failed)?;
                let at = (x, plot.1.end + 6);
                write(plain(tick), at, style(16, HPos::Center, VPos::Top)).map_err(failed)?;
            }
            let at = ((plot.0.start + plot.0.end) / 2, plot.1.end + 26);
            write(self.x_label.clone(), at, style(18, HPos::Center, VPos::Top)).map_err(failed)?;
            let mut y = plot.1.start + GAP / 2;
            for group in &self.groups {
                let middle = y + BAR * group.bars.len() as i32 / 2;
                let at = (plot.0.start - 8, middle);
                write(short(&group.name), at, style(16, HPos::Right, VPos::Center)).map_err(failed)?;
                for bar in &group.bars {
                    let colour = COLOURS[bar.colour % COLOURS.len()];
                    if is_drawable(bar.value) {
                        let corners =
                            [(plot.0.start, y + 1), (x(bar.value).max(plot.0.start + 1), y + BAR - 1)];
                        root.draw(&Rectangle::new(corners, colour.filled())).map_err(failed)?;
                        let mut end = x(bar.value);
                        if let Some((low, high)) = bar.spread.filter(|&(low, high)| low >= 0.0 && high > low)
                        {
                            let (middle, high) = (y + BAR / 2, x(high.min(longest)));
                            let low = x(low.min(longest));
                            for line in [
                                [(low, middle), (high, middle)],
                                [(low, middle - 4), (low, middle + 4)],
                                [(high, middle - 4), (high, middle + 4)],
                            ] {
                                root.draw(&PathElement::new(line, BLACK)).map_err(failed)?;
                            }
                            end = end.max(high);
                        }
                        let at = (end + 6, y + BAR / 2);
                        let text = format!("{} {}", three_digits(bar.value), short(&bar.label));
                        write(text.trim_end().to_owned(), at, style(15, HPos::Left, VPos::Center))
                            .map_err(failed)?;
                    }
                    y += BAR;
                }
                y += GAP;
            }
            let axis = PathElement::new([(plot.0.start, plot.1.start), (plot.0.start, plot.1.end)], BLACK);
            root.draw(&axis).map_err(failed)?;
            root.present().map_err(failed)?;
        }
        Ok(finish(text, &self.title, alone))
    }
}

/// Up to six round numbers from 0 to at most `longest`.
fn ticks(longest: f64) -> impl Iterator<Item = f64> {
    let rough = longest / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|&step| step >= rough);
    let step = step.unwrap_or(rough);
    (0..=5).map(move |i| f64::from(i) * step).filter(move |&tick| tick <= longest)
}

fn short(name: &str) -> String {
    match name.chars().count() > LONGEST {
        true => name.chars().take(LONGEST - 1).chain(['…']).collect(),
        false => name.to_owned(),
    }
}

/// A value as it stands beside its bar.
pub(super) fn three_digits(x: f64) -> String {
    match x {
        100.0.. => format!("{x:.0}"),
        10.0.. => format!("{x:.1}"),
        1.0.. => format!("{x:.2}"),
        1e-3.. => format!("{x:.3}"),
        _ => format!("{x:.1e}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn bars_and_their_values_are_drawn() {
        let bar = |value| Bar { value, spread: Some((0.5, 3.0)), colour: 1, label: "run".into() };
        let group = |name: &str| Group { name: name.into(), bars: vec![bar(1.0), bar(2.5)] };
        let plot =
            BarPlot { title: "T".into(), x_label: "seconds".into(), groups: vec![group("p"), group("W")] };
        let (alone, within) = (plot.svg(true).unwrap(), plot.svg(false).unwrap());
        for text in ["seconds", "2.50 run", ">\nW\n", "<style>"] {
            assert!(alone.contains(text), "{text} in {alone}");
        }
        assert_eq!(within.matches("#0072B2").count(), 4, "{within}");
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(ticks(7.3).collect::<Vec<_>>(), [0.0, 2.0, 4.0, 6.0]);
        assert_eq!(ticks(1.0).last(), Some(1.0));
    }

    #[test]
    fn whatever_the_values_are_there_is_a_drawing_or_an_error() {
        let values = [0.0, -1.0, 1.0, 1e-300, 1e300, f64::MAX, f64::NAN, f64::INFINITY];
        for value in values {
            for end in values {
                let bars =
                    vec![Bar { value, spread: Some((value, end)), colour: 9, label: "l".repeat(1000) }];
                let groups = vec![Group { name: "n".repeat(1000), bars }];
                let plot = BarPlot { title: String::new(), x_label: String::new(), groups };
                if let Ok(svg) = plot.svg(false) {
                    assert!(svg.len() < 10_000, "{value} {end}");
                }
            }
        }
    }
}
