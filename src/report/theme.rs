//! What all plots share: colours, in light and in dark, fonts, and numbers on axes.

use std::ops::Range;

use plotters::style::RGBColor;

/// Colours told apart by the colour-blind (Okabe and Ito, 2008).
pub(super) const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 0, 0),
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];
/// Lines of the grid.
pub(super) const GRID: RGBColor = RGBColor(224, 224, 224);
pub(super) const FONT: &str = "sans-serif";

/// The colours that plots are drawn in, each with the one that takes its place on a dark page.
const DARK: [(&str, &str); 9] = [
    ("#FFFFFF", "#15181C"),
    ("#E0E0E0", "#33383F"),
    ("#000000", "#E6E6E6"),
    ("#0072B2", "#4BA3E3"),
    ("#D55E00", "#F4703A"),
    ("#009E73", "#2BC79A"),
    ("#CC79A7", "#E59AC4"),
    ("#E69F00", "#FFC04D"),
    ("#56B4E9", "#A6DCFF"),
];

/// A style sheet for drawings of this program, which are drawn for a light page: on a dark one, rules for the attributes
/// of a drawing take the place of its colours.
pub(super) fn dark_style() -> String {
    let rules = DARK.iter().map(|(light, dark)| {
        format!("svg.plot [fill=\"{light}\"]{{fill:{dark}}}svg.plot [stroke=\"{light}\"]{{stroke:{dark}}}")
    });
    format!("@media (prefers-color-scheme:dark){{{}}}", rules.collect::<String>())
}

/// A colour as it is written in a drawing.
pub(super) fn hex(colour: RGBColor) -> String {
    format!("#{:02X}{:02X}{:02X}", colour.0, colour.1, colour.2)
}

/// Every drawing begins like this.
pub(super) const START: &str = "<svg class=\"plot\" role=\"img\" ";

/// Marks a drawing as one that [`dark_style`] applies to, and gives it a name for those who cannot see it. With
/// `alone` it carries the style sheet itself.
pub(super) fn finish(svg: String, title: &str, alone: bool) -> String {
    let title = escape(title);
    let style = if alone { format!("<style>{}</style>\n", dark_style()) } else { String::new() };
    let svg = svg.replacen("<svg ", &format!("{START}aria-label=\"{title}\" "), 1);
    svg.replacen(">\n", &format!(">\n<title>{title}</title>\n{style}"), 1)
}

/// Text as it stands in HTML and XML, in attributes too.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// From the smallest to the largest of the finite values.
pub(super) fn range(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (low, high) = values
        .filter(|x| x.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
    low..high
}

/// 10⁵ for 100,000, 3×10⁻² for 0.03, and digits for what is no simple multiple of a power of ten.
pub(super) fn power_of_ten(x: f64) -> String {
    let exponent = (x.log10() + 1e-9).floor();
    let mantissa = x / 10f64.powf(exponent);
    let whole = mantissa.round();
    if x <= 0.0 || (mantissa - whole).abs() > 1e-6 {
        return format!("{x}");
    }
    let superscript = |digit: char| match digit {
        '-' => '⁻',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        digit => char::from_u32('⁰' as u32 + digit.to_digit(10).unwrap_or(0)).unwrap_or(digit),
    };
    let power = format!("10{}", format!("{exponent:.0}").chars().map(superscript).collect::<String>());
    if whole == 1.0 { power } else { format!("{whole}×{power}") }
}

/// A number of a linear axis, without digits that say nothing.
pub(super) fn plain(x: f64) -> String {
    // Sums of tick steps carry rounding.
    let rounded = (x * 1e6).round() / 1e6;
    if rounded.abs() >= 1e7 { format!("{rounded:.2e}") } else { format!("{}", rounded + 0.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_of_ten() {
        assert_eq!(
            [1e5, 1e-3, 1.0, 2.5, 0.03, 1000.0].map(power_of_ten),
            ["10⁵", "10⁻³", "10⁰", "2.5", "3×10⁻²", "10³"]
        );
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([0.30000000000000004, 200.0, -0.0, 1.25e9].map(plain), ["0.3", "200", "0", "1.25e9"]);
    }

    #[test]
    fn every_colour_has_a_dark_one() {
        let known = |colour| DARK.iter().any(|(light, _)| *light == hex(colour));
        assert!(COLOURS.into_iter().chain([GRID, RGBColor(255, 255, 255)]).all(known));
    }

    #[test]
    fn text_of_strangers_is_no_markup() {
        assert_eq!(escape("<a href='x\">&"), "&lt;a href=&#39;x&quot;&gt;&amp;");
    }
}
