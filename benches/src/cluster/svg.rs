//! The drawing: latency over percentile, a panel for every operation and cluster size.
//!
//! The percentile axis is logarithmic in the requests that are slower (0, 90, 99, 99.9, 99.99), so
//! that the tail, which averages hide, takes as much room as the rest. Latency is logarithmic too.

use std::fmt::Write as _;

use super::cell::Measure;
use super::report::Report;

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

/// Ours and theirs: dark enough on white, told apart without colour vision too.
const COLORS: [&str; 2] = ["#0072b2", "#d55e00"];

const STYLE: &str = "text{font-family:Inter,'Segoe UI',Helvetica,Arial,sans-serif;fill:#1f2933}\
.title{font-size:20px;font-weight:600}.sub{font-size:12.5px;fill:#52606d}\
.panel{font-size:13px;font-weight:600}.tick{font-size:11px;fill:#616e7c}\
.axis{font-size:12px;fill:#3e4c59}.note{font-size:11px;fill:#3e4c59}.key{font-size:13px}\
.grid{stroke:#e4e7eb;stroke-width:1}.frame{fill:none;stroke:#9aa5b1;stroke-width:1}\
.line{fill:none;stroke-width:2.2;stroke-linejoin:round;stroke-linecap:round}";

/// A latency axis: the logarithms of its lowest and highest milliseconds.
#[derive(Clone, Copy)]
struct Scale {
    low: f64,
    high: f64,
}

impl Scale {
    /// Room for all of the measures, from tick to tick.
    fn over(measures: &[&Measure]) -> Scale {
        let at = |measure: &Measure, quantile| {
            measure.tally.latencies.quantile(quantile).as_secs_f64() * 1e3
        };
        let full = measures
            .iter()
            .filter(|measure| measure.tally.latencies.total() > 0);
        let lowest = full
            .clone()
            .map(|measure| at(measure, 0.01))
            .fold(f64::INFINITY, f64::min);
        let end = 1.0 - 10_f64.powf(-DECADES);
        let highest = full.map(|measure| at(measure, end)).fold(0.0, f64::max);
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

/// 1, 2 and 5 of every decade, in milliseconds: from a microsecond to half a million seconds.
fn ticks() -> impl DoubleEndedIterator<Item = f64> {
    (-3..9).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(power)))
}

/// Draws the report.
pub fn draw(report: &Report) -> String {
    let (columns, rows) = (report.members().len() as f64, report.ops().len() as f64);
    let width = (LEFT + columns * (PANEL_W + GAP_X) - GAP_X + RIGHT).max(940.0);
    let height = TOP + rows * (PANEL_H + GAP_Y) - GAP_Y + BOTTOM;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\">\n<style>{STYLE}</style>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    head(&mut svg, report);
    for (row, op) in report.ops().iter().enumerate() {
        let measures = row_measures(report, row);
        let scale = Scale::over(&measures);
        for (column, members) in report.members().iter().enumerate() {
            let x = LEFT + column as f64 * (PANEL_W + GAP_X);
            let y = TOP + row as f64 * (PANEL_H + GAP_Y);
            put(
                &mut svg,
                &format!("<g transform=\"translate({x:.1},{y:.1})\">"),
            );
            let plural = if *members == 1 { "member" } else { "members" };
            text(
                &mut svg,
                0.0,
                -9.0,
                "panel",
                "start",
                &format!("{}, {members} {plural}", op.title()),
            );
            frame(&mut svg, scale, column == 0);
            for server in 0..report.servers().len() {
                if let Some(measure) = report.cell(*members, row, server) {
                    curve(&mut svg, scale, measure, server);
                }
            }
            put(&mut svg, "</g>");
        }
    }
    text(
        &mut svg,
        width / 2.0,
        height - 14.0,
        "axis",
        "middle",
        "percentile of requests (logarithmic towards the slowest)",
    );
    let middle = TOP + (height - TOP - BOTTOM) / 2.0;
    let turned = format!("transform=\"rotate(-90 20 {middle:.0})\"");
    put(
        &mut svg,
        &format!(
            "<text class=\"axis\" text-anchor=\"middle\" x=\"20\" y=\"{middle:.0}\" {turned}>latency, ms</text>"
        ),
    );
    svg += "</svg>\n";
    svg
}

/// Title, what was run, legend.
fn head(svg: &mut String, report: &Report) {
    text(svg, LEFT, 34.0, "title", "start", "Latency by percentile");
    text(svg, LEFT, 56.0, "sub", "start", &report.headline());
    let mut x = LEFT;
    for (place, name) in report.servers().iter().enumerate() {
        let (color, dash) = look(place);
        put(
            svg,
            &format!(
                "<line class=\"line\" x1=\"{x:.1}\" y1=\"82\" x2=\"{:.1}\" y2=\"82\" stroke=\"{color}\"{dash}/>",
                x + 30.0
            ),
        );
        text(svg, x + 38.0, 86.5, "key", "start", name);
        x += 70.0 + 8.0 * name.len() as f64;
    }
}

/// All cells of an operation: a row of panels shares its axis.
fn row_measures(report: &Report, row: usize) -> Vec<&Measure> {
    let mut measures = Vec::new();
    for members in report.members() {
        measures.extend((0..report.servers().len()).filter_map(|s| report.cell(*members, row, s)));
    }
    measures
}

/// Grid, ticks and frame of a panel.
fn frame(svg: &mut String, scale: Scale, labelled: bool) {
    for decade in 0..=DECADES as i32 {
        let x = PANEL_W * f64::from(decade) / DECADES;
        put(
            svg,
            &format!(
                "<line class=\"grid\" x1=\"{x:.1}\" y1=\"0\" x2=\"{x:.1}\" y2=\"{PANEL_H}\"/>"
            ),
        );
        let label = ["0", "90", "99", "99.9", "99.99"][decade as usize];
        text(svg, x, PANEL_H + 16.0, "tick", "middle", label);
    }
    for millis in ticks().filter(|millis| scale.shows(*millis)) {
        let y = scale.y(millis);
        put(
            svg,
            &format!(
                "<line class=\"grid\" x1=\"0\" y1=\"{y:.1}\" x2=\"{PANEL_W}\" y2=\"{y:.1}\"/>"
            ),
        );
        if labelled {
            text(svg, -8.0, y + 4.0, "tick", "end", &format!("{millis}"));
        }
    }
    put(
        svg,
        &format!("<rect class=\"frame\" width=\"{PANEL_W}\" height=\"{PANEL_H}\"/>"),
    );
}

/// One server's line, and its figures in the corner.
fn curve(svg: &mut String, scale: Scale, measure: &Measure, place: usize) {
    let latencies = &measure.tally.latencies;
    if latencies.total() == 0 {
        return;
    }
    // Beyond the last request there is nothing to draw.
    let end = (latencies.total() as f64).log10().min(DECADES);
    let mut path = String::new();
    for point in 0..=POINTS {
        let decades = end * point as f64 / POINTS as f64;
        let quantile = 1.0 - 10_f64.powf(-decades);
        let millis = latencies.quantile(quantile).as_secs_f64() * 1e3;
        let (x, y) = (PANEL_W * decades / DECADES, scale.y(millis));
        let command = if point == 0 { 'M' } else { 'L' };
        // Writing to a String cannot fail.
        let _ = write!(path, "{command}{x:.1} {y:.1}");
    }
    let (color, dash) = look(place);
    put(
        svg,
        &format!("<path class=\"line\" stroke=\"{color}\"{dash} d=\"{path}\"/>"),
    );
    let rate = thousands(measure.rate());
    let note = format!("{rate} req/s, {:.0} us CPU", measure.server_cpu_micros());
    // Curves rise to the right: the corner below them is free.
    let (x, y) = (PANEL_W - 8.0, PANEL_H - 24.0 + 15.0 * place as f64);
    put(
        svg,
        &format!(
            "<text class=\"note\" text-anchor=\"end\" x=\"{x:.1}\" y=\"{y:.1}\" style=\"fill:{color}\">{note}</text>"
        ),
    );
}

/// Colour and dash of a server.
fn look(place: usize) -> (&'static str, &'static str) {
    let dash = if place == 0 {
        ""
    } else {
        " stroke-dasharray=\"7 4\""
    };
    (COLORS[place % COLORS.len()], dash)
}

/// A number with a comma every three digits.
fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn text(svg: &mut String, x: f64, y: f64, class: &str, anchor: &str, content: &str) {
    let content = content.replace('&', "&amp;").replace('<', "&lt;");
    put(
        svg,
        &format!(
            "<text class=\"{class}\" text-anchor=\"{anchor}\" x=\"{x:.1}\" y=\"{y:.1}\">{content}</text>"
        ),
    );
}

fn put(svg: &mut String, element: &str) {
    svg.push_str(element);
    svg.push('\n');
}
