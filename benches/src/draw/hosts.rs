//! Latency over the number of hosts: lines that are flat, and lines that rise.

use std::fmt::Write as _;

use super::{Drawing, color};

const PANEL_W: f64 = 400.0;
const PANEL_H: f64 = 230.0;
const GAP_X: f64 = 60.0;
const GAP_Y: f64 = 64.0;
const LEFT: f64 = 84.0;
const TOP: f64 = 128.0;
const RIGHT: f64 = 34.0;
const BOTTOM: f64 = 64.0;

/// About how many marks the latency axis has.
const TICKS: f64 = 5.0;

/// A drawing's content.
#[derive(Debug)]
pub struct Chart {
    /// What was run, in one line.
    pub headline: String,
    /// The lines' names, in the order of every panel's lines.
    pub names: Vec<String>,
    /// Rows of panels; those of a column share their latency axis.
    pub rows: Vec<Vec<Panel>>,
}

/// One case.
#[derive(Clone, Debug)]
pub struct Panel {
    /// What it is.
    pub title: String,
    /// Lines; one that was not measured has no points.
    pub lines: Vec<Vec<Point>>,
}

/// One cell.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// Hosts.
    pub hosts: usize,
    /// Half of the requests took no longer, in milliseconds.
    pub p50: f64,
    /// 99 of 100 took no longer.
    pub p99: f64,
}

/// Both axes of a panel: hosts logarithmic, latency from zero.
#[derive(Clone, Copy)]
struct Axes {
    low: f64,
    high: f64,
    top: f64,
    tick: f64,
}

impl Axes {
    /// Room for all points of the panels.
    fn over<'a>(panels: impl Iterator<Item = &'a Panel>) -> Axes {
        let points = panels.flat_map(|panel| panel.lines.iter().flatten());
        let (mut low, mut high, mut top) = (f64::INFINITY, 0.0_f64, 0.0_f64);
        for point in points {
            low = low.min(point.hosts as f64);
            high = high.max(point.hosts as f64);
            top = top.max(point.p50).max(point.p99);
        }
        let tick = round(top.max(1e-3) / TICKS);
        let low = if low.is_finite() { low.max(1.0) } else { 1.0 };
        Axes {
            low: low.ln(),
            high: high.max(low * 2.0).ln(),
            top: (top / tick).ceil().max(1.0) * tick,
            tick,
        }
    }

    fn x(self, hosts: usize) -> f64 {
        PANEL_W * ((hosts as f64).ln() - self.low) / (self.high - self.low)
    }

    fn y(self, millis: f64) -> f64 {
        PANEL_H * (1.0 - millis / self.top)
    }
}

/// The next higher 1, 2 or 5 of a decade.
fn round(number: f64) -> f64 {
    let decade = 10_f64.powf(number.log10().floor());
    let digits = [1.0, 2.0, 5.0, 10.0];
    let digit = digits
        .into_iter()
        .find(|digit| digit * decade >= number * 0.999);
    digit.unwrap_or(10.0) * decade
}

/// Draws the chart.
pub fn draw(chart: &Chart) -> String {
    let columns = chart.rows.iter().map(Vec::len).max().unwrap_or(1);
    let width = LEFT + columns as f64 * (PANEL_W + GAP_X) - GAP_X + RIGHT;
    let height = TOP + chart.rows.len() as f64 * (PANEL_H + GAP_Y) - GAP_Y + BOTTOM;
    let mut drawing = Drawing::new(width.max(940.0), height);
    drawing.head(LEFT, "Puts beside more and more hosts", &chart.headline);
    let names = chart.names.iter().enumerate();
    let entries: Vec<_> = names
        .map(|(place, name)| (name.clone(), format!(" stroke=\"{}\"", color(place))))
        .collect();
    drawing.legend(LEFT, &entries);
    for column in 0..columns {
        let axes = Axes::over(chart.rows.iter().filter_map(|row| row.get(column)));
        for (row, panels) in chart.rows.iter().enumerate() {
            let Some(panel) = panels.get(column) else {
                continue;
            };
            let x = LEFT + column as f64 * (PANEL_W + GAP_X);
            let y = TOP + row as f64 * (PANEL_H + GAP_Y);
            drawing.open_panel(x, y, &panel.title);
            frame(&mut drawing, axes, panel);
            for (place, points) in panel.lines.iter().enumerate() {
                line(&mut drawing, axes, points, place);
            }
            drawing.close_panel();
        }
    }
    let across = "hosts (logarithmic)";
    drawing.axes(across, "latency, ms: p50 solid, p99 dashed", TOP, BOTTOM);
    drawing.finish()
}

/// Grid, ticks and frame of a panel.
fn frame(drawing: &mut Drawing, axes: Axes, panel: &Panel) {
    let mut hosts: Vec<usize> = panel.lines.iter().flatten().map(|one| one.hosts).collect();
    hosts.sort_unstable();
    hosts.dedup();
    for hosts in hosts {
        let x = axes.x(hosts);
        drawing.line((x, 0.0), (x, PANEL_H), "grid", "");
        drawing.text(x, PANEL_H + 16.0, "tick", "middle", &hosts.to_string());
    }
    let marks = (axes.top / axes.tick).round() as usize;
    for mark in 0..=marks {
        let millis = mark as f64 * axes.tick;
        let y = axes.y(millis);
        drawing.line((0.0, y), (PANEL_W, y), "grid", "");
        let digits = if axes.tick < 0.1 {
            2
        } else {
            usize::from(axes.tick < 1.0)
        };
        drawing.text(-8.0, y + 4.0, "tick", "end", &format!("{millis:.digits$}"));
    }
    drawing.put(&format!(
        "<rect class=\"frame\" width=\"{PANEL_W}\" height=\"{PANEL_H}\"/>"
    ));
}

/// One line with its points; p99 thin and dashed.
fn line(drawing: &mut Drawing, axes: Axes, points: &[Point], place: usize) {
    let color = color(place);
    for (slow, more) in [
        (false, ""),
        (true, " style=\"stroke-width:1.2\" stroke-dasharray=\"4 4\""),
    ] {
        let mut path = String::new();
        for (number, point) in points.iter().enumerate() {
            let millis = if slow { point.p99 } else { point.p50 };
            let (x, y) = (axes.x(point.hosts), axes.y(millis));
            let command = if number == 0 { 'M' } else { 'L' };
            // Writing to a String cannot fail.
            let _ = write!(path, "{command}{x:.1} {y:.1}");
            let radius = if slow { 2.0 } else { 3.5 };
            drawing.put(&format!(
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\" fill=\"{color}\"/>"
            ));
        }
        if !path.is_empty() {
            drawing.put(&format!(
                "<path class=\"line\" stroke=\"{color}\"{more} d=\"{path}\"/>"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_points_and_marks() {
        let point = |hosts, p50| Point {
            hosts,
            p50,
            p99: 3.0 * p50,
        };
        let panel = Panel {
            title: "put".into(),
            lines: vec![
                vec![point(3, 1.0), point(13, 1.0), point(53, 1.1)],
                vec![point(3, 1.0), point(5, 1.5)],
                Vec::new(),
            ],
        };
        let chart = Chart {
            headline: "h".into(),
            names: vec!["a".into(), "b".into(), "c".into()],
            rows: vec![vec![panel]],
        };
        let svg = draw(&chart);
        assert_eq!(svg.matches("<path class=\"line\"").count(), 4);
        assert_eq!(svg.matches("<circle").count(), 10);
        assert!(svg.contains(">53</text>") && svg.contains(">5</text>"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn marks_are_round_numbers() {
        for (number, mark) in [
            (0.3, 0.5),
            (1.0, 1.0),
            (1.1, 2.0),
            (7.0, 10.0),
            (40.0, 50.0),
        ] {
            assert!((round(number) - mark).abs() < 1e-9, "{number}");
        }
        let nothing = Axes::over(std::iter::empty());
        assert!(nothing.y(0.0).is_finite() && nothing.x(1).is_finite());
    }
}
