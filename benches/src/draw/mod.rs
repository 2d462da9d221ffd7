//! Drawings: SVG as text, in one style.

pub mod hosts;
pub mod percentiles;

/// The servers' colours, by place: dark on white, and distinct without colour vision.
const COLORS: [&str; 3] = ["#0072b2", "#d55e00", "#009e73"];

const STYLE: &str = "text{font-family:Inter,'Segoe UI',Helvetica,Arial,sans-serif;fill:#1f2933}\
.title{font-size:20px;font-weight:600}.sub{font-size:12.5px;fill:#52606d}\
.panel{font-size:13px;font-weight:600}.tick{font-size:11px;fill:#616e7c}\
.axis{font-size:12px;fill:#3e4c59}.note{font-size:11px;fill:#3e4c59}.key{font-size:13px}\
.grid{stroke:#e4e7eb;stroke-width:1}.frame{fill:none;stroke:#9aa5b1;stroke-width:1}\
.line{fill:none;stroke-width:2.2;stroke-linejoin:round;stroke-linecap:round}";

/// A drawing that grows element by element.
struct Drawing {
    svg: String,
    width: f64,
    height: f64,
}

impl Drawing {
    /// A white page.
    fn new(width: f64, height: f64) -> Drawing {
        let svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\">\n<style>{STYLE}</style>\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
        );
        Drawing { svg, width, height }
    }

    fn put(&mut self, element: &str) {
        self.svg.push_str(element);
        self.svg.push('\n');
    }

    fn text(&mut self, x: f64, y: f64, class: &str, anchor: &str, content: &str) {
        self.colored(x, y, class, anchor, content, "");
    }

    /// Text in a colour; an empty one is the class's own.
    fn colored(&mut self, x: f64, y: f64, class: &str, anchor: &str, content: &str, color: &str) {
        let content = content.replace('&', "&amp;").replace('<', "&lt;");
        let style = match color {
            "" => String::new(),
            color => format!(" style=\"fill:{color}\""),
        };
        self.put(&format!(
            "<text class=\"{class}\" text-anchor=\"{anchor}\" x=\"{x:.1}\" y=\"{y:.1}\"{style}>\
             {content}</text>"
        ));
    }

    fn line(&mut self, from: (f64, f64), to: (f64, f64), class: &str, look: &str) {
        let (x1, y1, x2, y2) = (from.0, from.1, to.0, to.1);
        self.put(&format!(
            "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" \
             y2=\"{y2:.1}\"{look}/>"
        ));
    }

    /// Title and what was run.
    fn head(&mut self, left: f64, title: &str, headline: &str) {
        self.text(left, 34.0, "title", "start", title);
        self.text(left, 56.0, "sub", "start", headline);
    }

    /// The legend: names and looks from left to right.
    fn legend(&mut self, left: f64, entries: &[(String, String)]) {
        let mut x = left;
        for (name, look) in entries {
            self.line((x, 82.0), (x + 30.0, 82.0), "line", look);
            self.text(x + 38.0, 86.5, "key", "start", name);
            x += 70.0 + 7.4 * name.len() as f64;
        }
    }

    /// The axes' names; the vertical one is in the middle between `top` and `bottom`.
    fn axes(&mut self, horizontal: &str, vertical: &str, top: f64, bottom: f64) {
        let (x, y) = (self.width / 2.0, self.height - 14.0);
        self.text(x, y, "axis", "middle", horizontal);
        let middle = top + (self.height - top - bottom) / 2.0;
        self.put(&format!(
            "<text class=\"axis\" text-anchor=\"middle\" x=\"20\" y=\"{middle:.0}\" \
             transform=\"rotate(-90 20 {middle:.0})\">{vertical}</text>"
        ));
    }

    fn open_panel(&mut self, x: f64, y: f64, title: &str) {
        self.put(&format!("<g transform=\"translate({x:.1},{y:.1})\">"));
        self.text(0.0, -9.0, "panel", "start", title);
    }

    fn close_panel(&mut self) {
        self.put("</g>");
    }

    fn finish(mut self) -> String {
        self.svg += "</svg>\n";
        self.svg
    }
}

/// Colour and dash of the line at a place, as attributes.
fn look(place: usize) -> String {
    let dash = if place == 0 {
        ""
    } else {
        " stroke-dasharray=\"7 4\""
    };
    format!(" stroke=\"{}\"{dash}", color(place))
}

fn color(place: usize) -> &'static str {
    COLORS[place % COLORS.len()]
}

/// A number with a comma every three digits.
pub fn thousands(number: f64) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_and_escapes() {
        let numbers = [
            (0.4, "0"),
            (999.0, "999"),
            (1000.0, "1,000"),
            (1234567.0, "1,234,567"),
        ];
        for (number, text) in numbers {
            assert_eq!(thousands(number), text);
        }
        let mut drawing = Drawing::new(10.0, 10.0);
        drawing.text(0.0, 0.0, "key", "start", "a < b & c");
        assert!(drawing.finish().contains(">a &lt; b &amp; c</text>"));
    }
}
