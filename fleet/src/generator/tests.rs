//! Statistics, properties and the first draws of every generator.

use proptest::prelude::*;
use serde_json::json;

use super::*;

const DRAWS: u64 = 100_000;

fn at(number: u64) -> Draw {
    Draw {
        seed: 0x5eed,
        number,
        step_s: 1.0,
        unix_us: number * 1_000_000,
    }
}

fn series(generator: &Generator, draws: u64) -> Vec<f64> {
    let mut state = vec![0.0; generator.slots()];
    generator.reset(&mut state);
    (0..draws)
        .map(|n| generator.draw(&at(n), &mut state, &[]))
        .collect()
}

fn moments(values: &[f64]) -> (f64, f64) {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let square = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / values.len() as f64;
    (mean, square.sqrt())
}

fn walk() -> Brownian {
    Brownian {
        start: 20.0,
        drift: 0.0,
        volatility: 0.5,
        mean_reversion: 0.1,
        mean: 25.0,
        min: 0.0,
        max: 50.0,
    }
}

#[test]
fn a_gaussian_has_its_mean_and_deviation() {
    let (mean, deviation) = moments(&series(
        &Generator::Gaussian {
            mean: 230.0,
            stddev: 2.0,
        },
        DRAWS,
    ));
    assert!((mean - 230.0).abs() < 0.03, "{mean}");
    assert!((deviation - 2.0).abs() < 0.03, "{deviation}");
}

#[test]
fn a_brownian_walk_settles_around_its_mean_as_theory_says() {
    let values = series(&Generator::Brownian(walk()), DRAWS);
    let (mean, deviation) = moments(&values[1_000..]);
    assert!((mean - 25.0).abs() < 0.2, "{mean}");
    // x' = x + a (m - x) + v Z has variance v^2 / (1 - (1 - a)^2).
    let theory = 0.5 / (1.0f64 - 0.81).sqrt();
    assert!(
        (deviation - theory).abs() < 0.05,
        "{deviation} for {theory}"
    );
}

#[test]
fn a_day_peaks_at_its_peak_hour() {
    let day = Generator::Diurnal {
        baseline: 20.0,
        amplitude: 5.0,
        peak_hour: 14.0,
        noise_stddev: 0.0,
    };
    let by_hour: Vec<f64> = (0..24)
        .map(|hour| {
            let draw = Draw {
                unix_us: hour * 3_600_000_000,
                ..at(0)
            };
            day.draw(&draw, &mut [], &[])
        })
        .collect();
    assert!((by_hour[14] - 25.0).abs() < 1e-9);
    assert!((by_hour[2] - 15.0).abs() < 1e-9);
    assert!((by_hour[8] - 20.0).abs() < 1e-9);
}

#[test]
fn a_composite_is_the_sum_of_independent_parts() {
    let part = Generator::Gaussian {
        mean: 10.0,
        stddev: 1.0,
    };
    let sum = Generator::Composite(Box::new([
        part.clone(),
        part,
        Generator::Brownian(Brownian {
            mean: 20.0,
            ..walk()
        }),
    ]));
    assert_eq!(sum.slots(), 1);
    let (mean, deviation) = moments(&series(&sum, DRAWS));
    assert!((mean - 40.0).abs() < 0.3, "{mean}");
    let theory = (2.0f64 + 0.25 / 0.19).sqrt();
    assert!(
        (deviation - theory).abs() < 0.05,
        "{deviation} for {theory}"
    );
}

#[test]
fn a_follower_repeats_the_other_field_with_its_lag() {
    let follow = |samples| Generator::Follow {
        field: 0,
        gain: 2.0,
        offset: 1.0,
        lag: Duration::from_secs(u64::from(samples)),
        samples,
    };
    for lag in [0u16, 1, 3] {
        let generator = follow(lag);
        let mut state = vec![0.0; generator.slots()];
        generator.reset(&mut state);
        for n in 0..20u64 {
            let value = generator.draw(&at(n), &mut state, &[n as f64 * 10.0]);
            let before = n.saturating_sub(u64::from(lag)) as f64 * 10.0;
            assert_eq!(value, 2.0 * before + 1.0, "lag {lag}, draw {n}");
        }
    }
    let (late, mut state) = (follow(3), [f64::NAN; 3]);
    let from_seven = [7, 8, 9, 10].map(|n| late.draw(&at(n), &mut state, &[n as f64]));
    assert_eq!(from_seven, [15.0; 4], "the oldest known one");
}

#[test]
fn names_stay_names_in_json_and_become_indexes_as_numbers() {
    let chain = Markov::new(
        vec![json!("idle"), json!("run")],
        &[vec![0.0, 1.0], vec![1.0, 0.0]],
        Some(&json!("idle")),
    )
    .unwrap();
    let generator = Generator::Markov(Box::new(chain));
    let values = series(&generator, 3);
    assert_eq!(values, [1.0, 0.0, 1.0]);
    assert_eq!(generator.json(values[0]), json!("run"));
    assert!(!generator.numeric());
    assert_eq!(Generator::Static(json!("x")).json(0.0), json!("x"));
    assert_eq!(
        Generator::Gaussian {
            mean: 0.0,
            stddev: 1.0
        }
        .json(f64::NAN),
        Value::Null
    );
}

/// The first draws of each kind: a changed number here is a changed version in [`VERSIONS`].
#[test]
fn the_first_draws_are_what_version_one_draws() {
    let gaussian = series(
        &Generator::Gaussian {
            mean: 0.0,
            stddev: 1.0,
        },
        4,
    );
    let brownian = series(&Generator::Brownian(walk()), 4);
    let day = Generator::Diurnal {
        baseline: 1.0,
        amplitude: 1.0,
        peak_hour: 12.0,
        noise_stddev: 0.1,
    };
    let diurnal = series(&day, 2);
    assert_eq!(
        gaussian,
        [
            -0.6363616230130793,
            1.3318364571074415,
            1.9650731090230207,
            -1.1798858232518146
        ]
    );
    assert_eq!(
        brownian,
        [
            20.18181918849346,
            21.329555498197834,
            22.679136502889563,
            22.321279940974698
        ]
    );
    assert_eq!(diurnal, [-0.06363616230130793, 0.13318364835499263]);
}

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        -1e12..1e12f64,
        -10.0..10.0f64,
        Just(0.0),
        Just(f64::MAX),
        Just(f64::MIN)
    ]
}

proptest! {
    #[test]
    fn a_walk_never_leaves_its_clamps_and_never_becomes_nan(
        start in number(), drift in number(), volatility in 0.0..1e300f64,
        mean_reversion in number(), mean in number(), a in number(), b in number(),
        seed: u64,
    ) {
        let (min, max) = if a < b { (a, b) } else { (b, a) };
        let walk = Brownian { start, drift, volatility, mean_reversion, mean, min, max };
        let mean = mean.clamp(min, max);
        let generator = Generator::Brownian(Brownian { mean, ..walk });
        let mut state = [0.0];
        generator.reset(&mut state);
        for n in 0..200 {
            let value = generator.draw(&Draw { seed, ..at(n) }, &mut state, &[]);
            prop_assert!(value >= min && value <= max, "{value} outside {min}..{max}");
        }
    }

    #[test]
    fn a_draw_depends_on_seed_and_number_only(seed: u64, number in 0..1_000_000_000u64) {
        let generator = Generator::Gaussian { mean: 3.0, stddev: 2.0 };
        let draw = Draw { seed, ..at(number) };
        let once = generator.draw(&draw, &mut [], &[]);
        let later = Draw { step_s: 9.0, unix_us: 1, ..draw };
        let again = generator.draw(&later, &mut [], &[]);
        prop_assert_eq!(once.to_bits(), again.to_bits());
        prop_assert!(once.is_finite());
    }
}
