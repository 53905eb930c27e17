//! The distribution of jitter as a picture: counts over times, both logarithmic.
//!
//! It writes plain SVG by hand and knows nothing of files. Bound: [`BINS`] bars.

use std::fmt::Write as _;

use actorsim_world::scan::stats::Times;

/// Bars for each factor of ten.
const BINS_PER_DECADE: usize = 10;

/// Times from 10 ns to 1 s.
const DECADES: usize = 8;

/// Bars in all.
pub(super) const BINS: usize = BINS_PER_DECADE * DECADES;

/// Where the first bar begins.
const FIRST_NS: f64 = 10.0;

const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 50.0;

/// Cycles per bar; what is shorter or longer than the axis is in its first or last bar.
fn bins(times: &Times) -> [u64; BINS] {
    let mut below = 0;
    std::array::from_fn(|bin| {
        let upto = if bin + 1 == BINS {
            times.count()
        } else {
            let exponent = (bin + 1) as f64 / BINS_PER_DECADE as f64;
            times.count_at_or_below((FIRST_NS * 10_f64.powf(exponent)) as u64)
        };
        let count = upto.saturating_sub(below);
        below = upto.max(below);
        count
    })
}

fn x_of(ns: f64) -> f64 {
    let at = (ns.max(FIRST_NS) / FIRST_NS).log10() / DECADES as f64;
    LEFT + at.min(1.0) * (WIDTH - LEFT - RIGHT)
}

/// Height over the axis; a single cycle is still seen.
fn height_of(count: u64, greatest: u64) -> f64 {
    if count == 0 {
        return 0.0;
    }
    let log = |count: u64| (count as f64 + 1.0).log10();
    log(count) / log(greatest) * (HEIGHT - TOP - BOTTOM)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// The picture.
pub(super) fn plot(title: &str, times: &Times) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"20\" font-size=\"14\">{}</text>\n",
        escape(title)
    );
    let floor = HEIGHT - BOTTOM;
    let bins = bins(times);
    let greatest = bins.iter().copied().max().unwrap_or(0).max(1);
    let wide = (WIDTH - LEFT - RIGHT) / BINS as f64;
    for (bin, count) in bins.iter().enumerate().filter(|(_, count)| **count > 0) {
        let (x, high) = (LEFT + bin as f64 * wide, height_of(*count, greatest));
        let _ = writeln!(
            svg,
            "<rect class=\"bar\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{high:.1}\" \
             fill=\"#4a7ab5\"><title>{count} cycles</title></rect>",
            floor - high,
            wide - 1.0
        );
    }
    axes(&mut svg, floor, greatest);
    marks(&mut svg, floor, times);
    svg.push_str("</svg>\n");
    svg
}

fn axes(svg: &mut String, floor: f64, greatest: u64) {
    let right = WIDTH - RIGHT;
    let _ = writeln!(
        svg,
        "<path d=\"M{LEFT} {TOP}V{floor}H{right}\" fill=\"none\" stroke=\"#333\"/>"
    );
    for decade in 0..=DECADES {
        let ns = FIRST_NS * 10_f64.powi(decade as i32);
        let shown = match ns {
            ns if ns < 1e3 => format!("{ns} ns"),
            ns if ns < 1e6 => format!("{} us", ns / 1e3),
            ns if ns < 1e9 => format!("{} ms", ns / 1e6),
            ns => format!("{} s", ns / 1e9),
        };
        let (x, y) = (x_of(ns), floor + 18.0);
        let _ = writeln!(
            svg,
            "<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{shown}</text>"
        );
    }
    let mut count = 1_u64;
    while count <= greatest {
        let y = floor - height_of(count, greatest) + 4.0;
        let x = LEFT - 6.0;
        let _ = writeln!(
            svg,
            "<text x=\"{x}\" y=\"{y:.1}\" text-anchor=\"end\">{count}</text>"
        );
        count *= 10;
    }
}

fn marks(svg: &mut String, floor: f64, times: &Times) {
    let Some(found) = times.quantiles() else {
        let _ = writeln!(
            svg,
            "<text x=\"{LEFT}\" y=\"40\">nothing was measured</text>"
        );
        return;
    };
    let all = [
        ("p50", found.p50),
        ("p95", found.p95),
        ("p99", found.p99),
        ("p99.9", found.p999),
        ("max", found.max),
    ];
    let mut legend = Vec::new();
    for (name, us) in all {
        let x = x_of(us * 1_000.0);
        legend.push(format!("{name} {us:.2} us"));
        let _ = writeln!(
            svg,
            "<path class=\"mark\" d=\"M{x:.1} {TOP}V{floor}\" stroke=\"#b5433a\" \
             stroke-dasharray=\"3 3\"><title>{name} {us} us</title></path>"
        );
    }
    let legend = legend.join("   ");
    let _ = writeln!(
        svg,
        "<text x=\"{LEFT}\" y=\"40\" fill=\"#b5433a\">{legend}   ({} cycles)</text>",
        found.count
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cycle_is_in_a_bar() {
        let mut times = Times::default();
        for ns in [1, 15, 900, 900, 250_000, 5_000_000_000] {
            times.record(ns);
        }
        assert_eq!(bins(&times).iter().sum::<u64>(), 6);
        let svg = plot("a < b & c", &times);
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        assert!(svg.contains("a &lt; b &amp; c"));
        let bars = bins(&times).iter().filter(|count| **count > 0).count();
        assert_eq!(svg.matches("class=\"bar\"").count(), bars);
        assert_eq!(svg.matches("class=\"mark\"").count(), 5);
    }

    #[test]
    fn a_plot_of_nothing_says_so_and_has_no_marks() {
        let svg = plot("none", &Times::default());
        assert!(svg.contains("nothing was measured"));
        assert!(!svg.contains("class=\"mark\"") && !svg.contains("NaN"));
    }
}
