//! A plot of points with error bars over a logarithmic axis, as SVG.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::series::LineSeries;

use super::PlotError;
use super::theme::{COLOURS, FONT, finish, power_of_ten, range};
use crate::settings::Quantize;

const SIZE: (u32, u32) = (1000, 560);
/// The rest of the width is the legend's: no corner of a plot is sure to be empty.
const CHART_WIDTH: u32 = 780;

/// Mean and standard deviation at a place.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Where on the logarithmic axis; above 0.
    pub x: f64,
    /// Mean.
    pub y: f64,
    /// Standard deviation.
    pub deviation: f64,
    /// A word beside it.
    pub label: String,
}

/// Points of one kind, joined by a line.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// Which of seven colours.
    pub colour: usize,
    /// Filled circles and a full line, or empty ones and a thin line.
    pub filled: bool,
    /// Its points, in the order in which they are joined.
    pub points: Vec<Point>,
}

/// The plot.
#[derive(Debug, Clone, PartialEq)]
pub struct ScatterPlot {
    /// Above it.
    pub title: String,
    /// What x is, with its unit.
    pub x_label: String,
    /// What y is, with its unit.
    pub y_label: String,
    /// What to draw.
    pub series: Vec<Series>,
}

/// Name and colour of the series of runs by what is on levels, in every plot of accuracy against bytes.
pub fn kind_of_levels(quantize: Quantize) -> (&'static str, usize) {
    match quantize {
        Quantize::None => ("not quantized", 0),
        Quantize::P => ("p on levels", 1),
        Quantize::Q => ("q on levels", 2),
        Quantize::Pq => ("p and q on levels", 3),
    }
}

impl ScatterPlot {
    /// The plot as an SVG document, for light and dark pages; `alone` where it is a file of its own.
    ///
    /// # Errors
    /// Nothing to draw.
    pub fn svg(&self, alone: bool) -> Result<String, PlotError> {
        let points: Vec<&Point> = self.series.iter().flat_map(|series| &series.points).collect();
        let is_finite = |p: &&&Point| p.x > 0.0 && p.x.is_finite() && p.y.is_finite();
        let points: Vec<&Point> = points.iter().filter(is_finite).copied().collect();
        if points.is_empty() {
            return Err(PlotError::Empty);
        }
        let x = range(points.iter().map(|p| p.x));
        let x = x.start / 1.6..x.end * 2.2;
        let y = range(points.iter().flat_map(|p| [p.y - p.deviation, p.y + p.deviation]));
        let margin = (0.08 * (y.end - y.start)).max(0.002);
        let y = y.start - margin..y.end + margin;
        let mut text = String::new();
        {
            let root = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
            self.draw(&root, x, y, alone).map_err(|error| PlotError::Drawing(error.to_string()))?;
            root.present().map_err(|error| PlotError::Drawing(error.to_string()))?;
        }
        Ok(finish(text, &self.title, alone))
    }

    fn draw<'a>(
        &self,
        root: &DrawingArea<SVGBackend<'a>, Shift>,
        x: Range<f64>,
        y: Range<f64>,
        alone: bool,
    ) -> Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>> {
        root.fill(&WHITE)?;
        let (chart_area, legend_area) = root.split_horizontally(CHART_WIDTH);
        let mut builder = ChartBuilder::on(&chart_area);
        builder.margin(16).x_label_area_size(58).y_label_area_size(80);
        if alone {
            builder.caption(&self.title, (FONT, 22));
        }
        // Marks close to each other must not read alike.
        let digits = if y.end - y.start < 0.02 { 4 } else { 3 };
        let mut chart = builder.build_cartesian_2d(x.log_scale(), y)?;
        chart
            .configure_mesh()
            .x_desc(&self.x_label)
            .y_desc(&self.y_label)
            .axis_desc_style((FONT, 18))
            .label_style((FONT, 16))
            .light_line_style(WHITE)
            .x_label_formatter(&|x| power_of_ten(*x))
            .y_label_formatter(&|y| format!("{y:.digits$}"))
            .draw()?;
        for series in &self.series {
            let colour = COLOURS[series.colour % COLOURS.len()];
            let filled = series.filled;
            let line = colour.stroke_width(if filled { 2 } else { 1 });
            let drawn = LineSeries::new(series.points.iter().map(|p| (p.x, p.y)), line);
            chart.draw_series(drawn)?;
            let bars = series.points.iter().filter(|p| p.deviation > 0.0).map(|p| {
                let (low, high) = (p.y - p.deviation, p.y + p.deviation);
                ErrorBar::new_vertical(p.x, low, p.y, high, colour.mix(0.45).filled(), 8)
            });
            chart.draw_series(bars)?;
            let markers = series.points.iter().map(|p| {
                // An empty marker hides the line behind it.
                let shape = if filled { colour.filled() } else { WHITE.filled() };
                EmptyElement::at((p.x, p.y))
                    + Circle::new((0, 0), 5, shape)
                    + Circle::new((0, 0), 5, colour.stroke_width(2))
                    + Text::new(p.label.clone(), (8, -16), (FONT, 16).into_font().color(&colour))
            });
            chart.draw_series(markers)?;
        }
        for (i, series) in self.series.iter().enumerate() {
            let colour = COLOURS[series.colour % COLOURS.len()];
            let y = 60 + 24 * i as i32;
            let line = colour.stroke_width(if series.filled { 2 } else { 1 });
            let shape = if series.filled { colour.filled() } else { WHITE.filled() };
            let name = (FONT, 16).into_font().color(&BLACK);
            legend_area.draw(&PathElement::new([(0, y), (28, y)], line))?;
            legend_area.draw(&Circle::new((14, y), 5, shape))?;
            legend_area.draw(&Circle::new((14, y), 5, colour.stroke_width(2)))?;
            legend_area.draw(&Text::new(series.name.clone(), (36, y - 7), name))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn plot(points: Vec<Point>) -> ScatterPlot {
        let series = vec![Series { name: "p and q".into(), colour: 1, filled: true, points }];
        ScatterPlot { title: "T".into(), x_label: "bytes".into(), y_label: "share".into(), series }
    }

    #[test]
    fn every_point_is_drawn_with_its_label() {
        let point = |x, label: &str| Point { x, y: 0.8, deviation: 0.01, label: label.into() };
        let svg = plot(vec![point(1e5, "4 bits"), point(1e8, "8 bits")]).svg(true).unwrap();
        for text in ["4 bits", "8 bits", "p and q", "bytes", "share", "10⁷"] {
            assert!(svg.contains(text), "{text} is missing");
        }
        // Filling, outline and error bar of each point; filling and outline in the legend.
        assert_eq!(svg.matches("<circle").count(), 2 * 3 + 2);
    }

    #[test]
    fn nothing_to_draw_is_an_error() {
        assert!(matches!(plot(Vec::new()).svg(true), Err(PlotError::Empty)));
        let nowhere = Point { x: 0.0, y: f64::NAN, deviation: 0.0, label: String::new() };
        assert!(matches!(plot(vec![nowhere]).svg(true), Err(PlotError::Empty)));
    }
}
