//! Plots as SVG: bars on a logarithmic scale, one group per row, one bar per system.

use std::fmt::Write as _;

use crate::figure::{Spread, number};
use crate::system::Kind;

const WIDTH: f64 = 860.0;
const LEFT: f64 = 230.0;
const RIGHT: f64 = 90.0;
const TOP: f64 = 64.0;
const BAR: f64 = 15.0;
const GAP: f64 = 12.0;
const FONT: &str = "font-family=\"sans-serif\" font-size=\"12\"";

/// One row: its label, and what each system reached.
pub type Group = (String, Vec<(Kind, Spread)>);

fn colour(kind: Kind) -> &'static str {
    match kind {
        Kind::Kafka | Kind::Base | Kind::Peer => "#8c8c8c",
        Kind::Ottla => "#1f6fb4",
        Kind::Floor => "#c9d8e6",
    }
}

/// `None` when there is nothing to draw.
pub fn bars(title: &str, unit: &str, groups: &[Group]) -> Option<String> {
    let values = || groups.iter().flat_map(|(_, bars)| bars);
    let least = values()
        .map(|(_, spread)| spread.min)
        .filter(|value| *value > 0.0)
        .min_by(f64::total_cmp)?;
    let most = values()
        .map(|(_, spread)| spread.max)
        .max_by(f64::total_cmp)?;
    let (from, to) = (
        least.log10().floor(),
        most.log10().ceil().max(least.log10().floor() + 1.0),
    );
    let x = |value: f64| {
        let share = (value.max(least).log10() - from) / (to - from);
        LEFT + share * (WIDTH - LEFT - RIGHT)
    };
    let rows: f64 = groups
        .iter()
        .map(|(_, bars)| bars.len() as f64 * BAR + GAP)
        .sum();
    let height = TOP + rows + 40.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"12\" y=\"22\" font-family=\"sans-serif\" font-size=\"15\" font-weight=\"bold\">{}</text>\n",
        escaped(title)
    );
    let mut kinds: Vec<Kind> = values().map(|(kind, _)| *kind).collect();
    kinds.sort();
    kinds.dedup();
    let mut at = 12.0;
    for kind in kinds {
        let _ = writeln!(
            out,
            "<rect x=\"{at}\" y=\"34\" width=\"12\" height=\"12\" fill=\"{}\"/><text x=\"{}\" y=\"45\" {FONT}>{}</text>",
            colour(kind),
            at + 17.0,
            kind.label()
        );
        at += 40.0 + 8.0 * kind.label().len() as f64;
    }
    for power in from as i32..=to as i32 {
        let value = 10_f64.powi(power);
        let _ = writeln!(
            out,
            "<line x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"{1}\" y2=\"{2}\" stroke=\"#dddddd\"/>\
             <text x=\"{0:.1}\" y=\"{3}\" text-anchor=\"middle\" {FONT}>{4}</text>",
            x(value),
            TOP - 6.0,
            TOP + rows,
            TOP + rows + 16.0,
            plain(value)
        );
    }
    let _ = writeln!(
        out,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\" {FONT}>{}</text>",
        (LEFT + WIDTH - RIGHT) / 2.0,
        TOP + rows + 34.0,
        escaped(unit)
    );
    let mut y = TOP;
    for (label, bars) in groups {
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" {FONT}>{}</text>",
            LEFT - 8.0,
            y + bars.len() as f64 * BAR / 2.0 + 4.0,
            escaped(label)
        );
        for (kind, spread) in bars {
            let middle = y + BAR / 2.0;
            let _ = writeln!(
                out,
                "<rect x=\"{LEFT}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{}\" fill=\"{}\"/>\
                 <line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\" stroke=\"black\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" {FONT}>{}</text>",
                y + 1.0,
                (x(spread.median) - LEFT).max(1.0),
                BAR - 2.0,
                colour(*kind),
                x(spread.min),
                x(spread.max),
                x(spread.max) + 6.0,
                middle + 4.0,
                number(spread.median)
            );
            y += BAR;
        }
        y += GAP;
    }
    out.push_str("</svg>\n");
    Some(out)
}

fn plain(value: f64) -> String {
    if value >= 1.0 {
        format!("{value:.0}")
    } else {
        format!("{value}")
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_long_as_its_value_says() {
        let spread = |value| Spread::of([value]).unwrap();
        let groups = vec![(
            "a & b".to_owned(),
            vec![(Kind::Kafka, spread(1000.0)), (Kind::Ottla, spread(10.0))],
        )];
        let svg = bars("title", "µs", &groups).unwrap();
        let widths: Vec<f64> = svg
            .split("fill=\"#")
            .filter_map(|part| {
                part.rsplit_once(" width=\"")?
                    .1
                    .split_once('"')?
                    .0
                    .parse()
                    .ok()
            })
            .filter(|width| *width != 12.0)
            .collect();
        // Two decades on the axis: the smaller value is its left end.
        assert_eq!(widths.first().copied(), Some(WIDTH - LEFT - RIGHT), "{svg}");
        assert_eq!(widths.get(1).copied(), Some(1.0), "{svg}");
        assert!(svg.contains("a &amp; b"));
        assert_eq!(bars("title", "µs", &[]), None);
    }
}
