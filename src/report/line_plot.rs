//! Lines over a linear axis, a line a run, as SVG.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{Ranged, ValueFormatter};
use plotters::prelude::*;
use plotters::series::{DashedLineSeries, LineSeries};

use super::PlotError;
use super::theme::{COLOURS, FONT, GRID, finish, plain, power_of_ten, range};

const SIZE: (u32, u32) = (640, 380);
/// Room for the legend of a drawing that stands alone.
const LEGEND: u32 = 240;
/// What a logarithmic axis can show.
const LOGARITHMIC: Range<f64> = 1e-30..1e30;
/// What a linear axis can show.
const LINEAR: f64 = 1e15;

/// How a run is told from the others in every plot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Which of seven colours.
    pub colour: usize,
    /// Which of three kinds of line.
    pub dash: usize,
}

impl Look {
    /// Runs that can be told apart.
    pub const COUNT: usize = 3 * COLOURS.len();

    /// Of a run by its number, from 0. Black, the colour of text, comes last.
    pub fn of(run: usize) -> Self {
        Self { colour: (run + 1) % COLOURS.len(), dash: run / COLOURS.len() % 3 }
    }

    /// Its colour.
    pub(super) fn rgb(self) -> RGBColor {
        COLOURS[self.colour % COLOURS.len()]
    }

    /// Lengths of dash and gap, in pixels; `None` for a full line.
    pub(super) fn dashes(self) -> Option<(u32, u32)> {
        [None, Some((9, 4)), Some((3, 3))][self.dash % 3]
    }
}

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Its name in the legend.
    pub name: String,
    /// Its looks.
    pub look: Look,
    /// What it joins, from left to right.
    pub points: Vec<(f64, f64)>,
    /// Whether the points are marked.
    pub marked: bool,
}

/// The plot.
#[derive(Debug, Clone, PartialEq)]
pub struct LinePlot {
    /// Above it.
    pub title: String,
    /// What x is, with its unit.
    pub x_label: String,
    /// What y is, with its unit.
    pub y_label: String,
    /// Whether y is logarithmic; what is not above 0 is left out then.
    pub logarithmic: bool,
    /// A value that y reaches down to, where it would not by itself.
    pub from: Option<f64>,
    /// What to draw.
    pub lines: Vec<Line>,
    /// Places on x to mark, such as the ends of stages.
    pub marks: Vec<f64>,
    /// Whether it has a legend on a page too, because its lines are no runs.
    pub has_legend: bool,
    /// Lines that were left out because they could not be told apart.
    pub left_out: usize,
}

impl LinePlot {
    /// The plot as an SVG document; `alone` where it is a file of its own, with title and legend.
    ///
    /// # Errors
    /// [`PlotError::Empty`] where no point can be drawn.
    pub fn svg(&self, alone: bool) -> Result<String, PlotError> {
        let lines: Vec<Vec<(f64, f64)>> = self.lines.iter().map(|line| self.drawable(line)).collect();
        let points = || lines.iter().flatten();
        if points().next().is_none() {
            return Err(PlotError::Empty);
        }
        let x = widened(range(points().map(|p| p.0)), 0.0);
        let (shown, y) = (x.clone(), range(points().map(|p| p.1)));
        let size = if alone || self.has_legend { (SIZE.0 + LEGEND, SIZE.1) } else { SIZE };
        let mut text = String::new();
        {
            let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
            let failed = |error: DrawingAreaErrorKind<_>| PlotError::Drawing(format!("{error}"));
            root.fill(&WHITE).map_err(failed)?;
            let (area, legend) = root.split_horizontally(SIZE.0);
            let mut builder = ChartBuilder::on(&area);
            builder.margin(10).margin_right(22).x_label_area_size(50).y_label_area_size(76);
            if alone {
                builder.caption(&self.title, (FONT, 20));
            }
            if alone || self.has_legend {
                self.legend(&legend).map_err(failed)?;
            }
            if self.logarithmic {
                // A decade at least: axes with less have no power of ten to show.
                let middle = (y.start * y.end).sqrt();
                let (low, high) = (y.start.min(middle / 3.2) / 1.1, y.end.max(middle * 3.2) * 1.1);
                let chart = builder.build_cartesian_2d(x, (low..high).log_scale()).map_err(failed)?;
                self.draw(chart, &lines, (shown, low..high), &power_of_ten).map_err(failed)?;
            } else {
                let y = self.from.map_or(y.start, |from| from.min(y.start))..y.end;
                let y = widened(y, 0.05);
                let ends = (shown, y.clone());
                let chart = builder.build_cartesian_2d(x, y).map_err(failed)?;
                self.draw(chart, &lines, ends, &plain).map_err(failed)?;
            }
            root.present().map_err(failed)?;
        }
        Ok(finish(text, &self.title, alone))
    }

    /// The points of a line that the axes can show.
    fn drawable(&self, line: &Line) -> Vec<(f64, f64)> {
        let shows = |y: &f64| if self.logarithmic { LOGARITHMIC.contains(y) } else { y.abs() <= LINEAR };
        line.points.iter().filter(|(x, y)| x.abs() <= LINEAR && shows(y)).copied().collect()
    }

    fn draw<'a, X, Y>(
        &self,
        mut chart: ChartContext<'_, SVGBackend<'a>, Cartesian2d<X, Y>>,
        lines: &[Vec<(f64, f64)>],
        (shown, y): (Range<f64>, Range<f64>),
        number: &dyn Fn(f64) -> String,
    ) -> Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>>
    where
        X: Ranged<ValueType = f64> + ValueFormatter<f64>,
        Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
    {
        chart
            .configure_mesh()
            .x_desc(&self.x_label)
            .y_desc(&self.y_label)
            .axis_desc_style((FONT, 18))
            .label_style((FONT, 16))
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .x_labels(ticks(lines, &shown))
            .y_labels(8)
            .x_label_formatter(&|x| plain(*x))
            .y_label_formatter(&|y| number(*y))
            .draw()?;
        for &mark in self.marks.iter().filter(|mark| shown.contains(mark)) {
            chart.draw_series(DashedLineSeries::new(
                [(mark, y.start), (mark, y.end)],
                2,
                4,
                BLACK.mix(0.5).into(),
            ))?;
        }
        for (i, (line, points)) in self.lines.iter().zip(lines).enumerate() {
            let stroke = line.look.rgb().stroke_width(2);
            // Ranks change no result: a line over the same values leaves gaps for those beneath it.
            let beneath = lines.iter().take(i).filter(|earlier| *earlier == points).count() as u32;
            let gaps = (beneath > 0 && !points.is_empty()).then_some((10, 10 * beneath));
            match line.look.dashes().or(gaps) {
                None => {
                    chart.draw_series(LineSeries::new(points.iter().copied(), stroke))?;
                }
                Some((dash, gap)) => {
                    let points = points.iter().copied();
                    chart.draw_series(DashedLineSeries::new(points, dash, gap, stroke))?;
                }
            }
            // One point makes no line.
            if line.marked || points.len() == 1 {
                chart.draw_series(points.iter().map(|&p| Circle::new(p, 4, line.look.rgb().filled())))?;
            }
        }
        Ok(())
    }

    fn legend<'a>(
        &self,
        area: &DrawingArea<SVGBackend<'a>, Shift>,
    ) -> Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>> {
        for (i, line) in self.lines.iter().enumerate() {
            let y = 44 + 17 * i as i32;
            let stroke = line.look.rgb().stroke_width(2);
            let (dash, gap) = line.look.dashes().unwrap_or((28, 0));
            for x in (0..28).step_by((dash + gap) as usize) {
                let end = (x + dash as i32).min(28);
                area.draw(&PathElement::new([(x, y), (end, y)], stroke))?;
            }
            area.draw(&Text::new(line.name.clone(), (36, y - 7), (FONT, 16).into_font().color(&BLACK)))?;
        }
        Ok(())
    }
}

/// Marks on x: places between whole numbers mean nothing where there are few of them.
fn ticks(lines: &[Vec<(f64, f64)>], shown: &Range<f64>) -> usize {
    const MOST: usize = 8;
    let width = shown.end - shown.start;
    let are_whole = lines.iter().flatten().all(|point| point.0.fract() == 0.0);
    if are_whole && width < MOST as f64 { width as usize + 1 } else { MOST }
}

/// A range that an axis can show, with this share added at both ends.
fn widened(range: Range<f64>, share: f64) -> Range<f64> {
    let least = 1e-6 * range.start.abs().max(range.end.abs()).max(1e-6);
    let width = range.end - range.start;
    let more = if width > least { share * width } else { least.max(0.5 * range.end.abs()) };
    range.start - more..range.end + more
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::theme::hex;
    use super::*;

    fn plot(logarithmic: bool, points: Vec<(f64, f64)>) -> LinePlot {
        let line = Line { name: "<run>".into(), look: Look::of(8), points, marked: false };
        LinePlot {
            title: "T".into(),
            x_label: "iteration".into(),
            y_label: "objective".into(),
            logarithmic,
            from: None,
            lines: vec![line],
            marks: vec![2.0],
            has_legend: false,
            left_out: 0,
        }
    }

    #[test]
    fn drawings_alone_have_title_and_legend() {
        let plot = plot(true, vec![(1.0, 10.0), (3.0, 1000.0)]);
        let (alone, within) = (plot.svg(true).unwrap(), plot.svg(false).unwrap());
        for text in ["&lt;run&gt;", "iteration", "objective", "10²", "<style>", "<title>T</title>"] {
            assert!(alone.contains(text), "{text}");
        }
        assert!(!within.contains("run&gt;") && !within.contains("<style>"));
    }

    #[test]
    fn lines_with_the_same_values_all_show() {
        let mut both = plot(false, vec![(1.0, 1.0), (3.0, 2.0)]);
        both.lines[0].look = Look::of(0);
        let mut second = both.lines[0].clone();
        second.look = Look::of(1);
        both.lines.push(second);
        let svg = both.svg(false).unwrap();
        let strokes = |run: usize| svg.matches(&format!("stroke=\"{}\"", hex(Look::of(run).rgb()))).count();
        assert_eq!(strokes(0), 1);
        assert!(strokes(1) > 5, "{svg}");
    }

    /// Values that strangers write must neither panic nor take for ever.
    #[test]
    fn whatever_the_values_are_there_is_a_drawing_or_an_error() {
        let values =
            [0.0, -1.0, 1.0, 1.0 + 1e-15, 1e-300, 1e300, f64::MAX, f64::NAN, f64::INFINITY, 1e15, 1e-15];
        for logarithmic in [false, true] {
            for a in values {
                for b in values {
                    let points = vec![(a, b), (b, a), (a, a)];
                    if let Ok(svg) = plot(logarithmic, points).svg(true) {
                        assert!(svg.len() < 100_000 && !svg.contains("NaN"), "{a} {b}");
                    }
                }
            }
        }
        assert!(matches!(plot(true, vec![(1.0, 0.0)]).svg(true), Err(PlotError::Empty)));
    }
}
