//! Latency over percentile, a panel for every case.
//!
//! The percentile axis is logarithmic in the requests that are slower (0, 90, 99, 99.9, 99.99), so
//! that the tail, which averages hide, takes as much room as the rest. Latency is logarithmic too.

use std::fmt::Write as _;

use super::{Drawing, color, look};
use crate::histogram::Histogram;

const PANEL_W: f64 = 250.0;
const PANEL_H: f64 = 170.0;
const GAP_X: f64 = 34.0;
const GAP_Y: f64 = 58.0;
const LEFT: f64 = 84.0;
const TOP: f64 = 128.0;
const RIGHT: f64 = 28.0;
const BOTTOM: f64 = 64.0;

/// The percentile axis ends at 1 - 10^-DECADES.
const DECADES: f64 = 4.0;
const POINTS: usize = 160;

/// A drawing's content.
#[derive(Debug)]
pub struct Chart<'a> {
    /// What was run, in one line.
    pub headline: String,
    /// The servers' names.
    pub servers: Vec<String>,
    /// Rows of panels; those of a row share their latency axis.
    pub rows: Vec<Vec<Panel<'a>>>,
}

/// One case.
#[derive(Debug)]
pub struct Panel<'a> {
    /// What it is.
    pub title: String,
    /// A curve for every server, in their order.
    pub curves: Vec<Option<Curve<'a>>>,
}

/// One server's latencies in one case.
#[derive(Debug)]
pub struct Curve<'a> {
    /// The latencies.
    pub latencies: &'a Histogram,
    /// Its figures, for the corner of the panel.
    pub note: String,
}

/// A latency axis: the logarithms of its lowest and highest milliseconds.
#[derive(Clone, Copy)]
struct Scale {
    low: f64,
    high: f64,
}

impl Scale {
    /// Room for all curves of a row, from tick to tick.
    fn over(row: &[Panel]) -> Scale {
        let end = 1.0 - 10_f64.powf(-DECADES);
        let (mut lowest, mut highest) = (f64::INFINITY, 0.0_f64);
        for curve in row.iter().flat_map(|panel| panel.curves.iter().flatten()) {
            if curve.latencies.total() > 0 {
                lowest = lowest.min(millis(curve.latencies, 0.01));
                highest = highest.max(millis(curve.latencies, end));
            }
        }
        let low = ticks().rev().find(|tick| *tick <= lowest).unwrap_or(0.1);
        let high = ticks()
            .find(|tick| *tick >= highest.max(low * 2.0))
            .unwrap_or(10.0);
        Scale {
            low: low.log10(),
            high: high.log10(),
        }
    }

    fn y(self, millis: f64) -> f64 {
        let part = (millis.max(1e-9).log10() - self.low) / (self.high - self.low);
        PANEL_H * (1.0 - part.clamp(0.0, 1.0))
    }

    fn shows(self, millis: f64) -> bool {
        (self.low - 1e-9..=self.high + 1e-9).contains(&millis.log10())
    }
}

fn millis(latencies: &Histogram, quantile: f64) -> f64 {
    latencies.quantile(quantile).as_secs_f64() * 1e3
}

/// 1, 2 and 5 of every decade, in milliseconds: from a microsecond to half a million seconds.
fn ticks() -> impl DoubleEndedIterator<Item = f64> {
    (-3..9).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(power)))
}

/// Draws the chart.
pub fn draw(chart: &Chart) -> String {
    let columns = chart.rows.iter().map(Vec::len).max().unwrap_or(1) as f64;
    let rows = chart.rows.len() as f64;
    let width = (LEFT + columns * (PANEL_W + GAP_X) - GAP_X + RIGHT).max(940.0);
    let height = TOP + rows * (PANEL_H + GAP_Y) - GAP_Y + BOTTOM;
    let mut drawing = Drawing::new(width, height);
    drawing.head(LEFT, "Latency by percentile", &chart.headline);
    let names = chart.servers.iter().enumerate();
    let entries: Vec<_> = names
        .map(|(place, name)| (name.clone(), look(place)))
        .collect();
    drawing.legend(LEFT, &entries);
    for (row, panels) in chart.rows.iter().enumerate() {
        let scale = Scale::over(panels);
        for (column, panel) in panels.iter().enumerate() {
            let x = LEFT + column as f64 * (PANEL_W + GAP_X);
            let y = TOP + row as f64 * (PANEL_H + GAP_Y);
            drawing.open_panel(x, y, &panel.title);
            frame(&mut drawing, scale, column == 0);
            for (place, one) in panel.curves.iter().enumerate() {
                if let Some(one) = one {
                    curve(&mut drawing, scale, one, place);
                }
            }
            drawing.close_panel();
        }
    }
    let across = "percentile of requests (logarithmic towards the slowest)";
    drawing.axes(across, "latency, ms", TOP, BOTTOM);
    drawing.finish()
}

/// Grid, ticks and frame of a panel.
fn frame(drawing: &mut Drawing, scale: Scale, labelled: bool) {
    for decade in 0..=DECADES as i32 {
        let x = PANEL_W * f64::from(decade) / DECADES;
        drawing.line((x, 0.0), (x, PANEL_H), "grid", "");
        let label = ["0", "90", "99", "99.9", "99.99"][decade as usize];
        drawing.text(x, PANEL_H + 16.0, "tick", "middle", label);
    }
    for millis in ticks().filter(|millis| scale.shows(*millis)) {
        let y = scale.y(millis);
        drawing.line((0.0, y), (PANEL_W, y), "grid", "");
        if labelled {
            drawing.text(-8.0, y + 4.0, "tick", "end", &format!("{millis}"));
        }
    }
    drawing.put(&format!(
        "<rect class=\"frame\" width=\"{PANEL_W}\" height=\"{PANEL_H}\"/>"
    ));
}

/// One server's line, and its figures in the corner.
fn curve(drawing: &mut Drawing, scale: Scale, curve: &Curve, place: usize) {
    let total = curve.latencies.total();
    if total == 0 {
        return;
    }
    // Beyond the last request there is nothing to draw.
    let end = (total as f64).log10().min(DECADES);
    let mut path = String::new();
    for point in 0..=POINTS {
        let decades = end * point as f64 / POINTS as f64;
        let millis = millis(curve.latencies, 1.0 - 10_f64.powf(-decades));
        let (x, y) = (PANEL_W * decades / DECADES, scale.y(millis));
        let command = if point == 0 { 'M' } else { 'L' };
        // Writing to a String cannot fail.
        let _ = write!(path, "{command}{x:.1} {y:.1}");
    }
    let look = look(place);
    drawing.put(&format!("<path class=\"line\"{look} d=\"{path}\"/>"));
    // Curves rise to the right: the corner below them is free.
    let (x, y) = (PANEL_W - 8.0, PANEL_H - 24.0 + 15.0 * place as f64);
    drawing.colored(x, y, "note", "end", &curve.note, color(place));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_curve_for_every_server_that_has_latencies() {
        let mut latencies = Histogram::default();
        for micros in 1..2000 {
            latencies.record(Duration::from_micros(micros));
        }
        let empty = Histogram::default();
        let curve = |latencies| Curve {
            latencies,
            note: "1 req/s".into(),
        };
        let chart = Chart {
            headline: "a & b".into(),
            servers: vec!["a".into(), "b".into()],
            rows: vec![vec![Panel {
                title: "get".into(),
                curves: vec![Some(curve(&latencies)), Some(curve(&empty)), None],
            }]],
        };
        let svg = draw(&chart);
        assert_eq!(svg.matches("<path class=\"line\"").count(), 1);
        assert!(svg.contains("a &amp; b") && svg.ends_with("</svg>\n"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }
}
