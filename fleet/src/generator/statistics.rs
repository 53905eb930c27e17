//! What a million draws of each generator must look like: moments, memory, drift, frequencies.
//!
//! Seeds are fixed, so a test either always passes or never. Limits are at least four standard
//! errors of the estimate, given beside each.

use serde_json::{Value, json};

use super::*;

const DRAWS: u64 = 1_000_000;
const SEEDS: [u64; 2] = [1, 0x5eed];

fn series(generator: &Generator, seed: u64) -> Vec<f64> {
    let mut state = vec![0.0; generator.slots()];
    generator.reset(&mut state);
    let draw = |number| Draw {
        seed,
        number,
        step_s: 1.0,
        unix_us: number * 1_000_000,
    };
    (0..DRAWS)
        .map(|n| generator.draw(&draw(n), &mut state, &[]))
        .collect()
}

/// Mean, standard deviation, skewness and excess kurtosis.
fn moments(values: &[f64]) -> [f64; 4] {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let central = |power| values.iter().map(|x| (x - mean).powi(power)).sum::<f64>() / n;
    let deviation = central(2).sqrt();
    let skewness = central(3) / deviation.powi(3);
    [
        mean,
        deviation,
        skewness,
        central(4) / deviation.powi(4) - 3.0,
    ]
}

fn autocorrelation(values: &[f64], lag: usize) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let pairs = values.iter().zip(&values[lag..]);
    let covariance: f64 = pairs.map(|(a, b)| (a - mean) * (b - mean)).sum();
    let variance: f64 = values.iter().map(|x| (x - mean).powi(2)).sum();
    covariance / variance
}

fn close(what: &str, got: f64, wanted: f64, limit: f64) {
    assert!((got - wanted).abs() < limit, "{what}: {got}, not {wanted}");
}

#[test]
fn a_gaussian_is_normal_and_without_memory() {
    let generator = Generator::Gaussian {
        mean: -3.0,
        stddev: 2.0,
    };
    for seed in SEEDS {
        let values = series(&generator, seed);
        let [mean, deviation, skewness, kurtosis] = moments(&values);
        close("mean", mean, -3.0, 0.01); // standard error 0.002
        close("deviation", deviation, 2.0, 0.01); // 0.0014
        close("skewness", skewness, 0.0, 0.012); // 0.0024
        close("kurtosis", kurtosis, 0.0, 0.024); // 0.0049
        for lag in [1, 2, 7, 100] {
            close("autocorrelation", autocorrelation(&values, lag), 0.0, 0.005); // 0.001
        }
        let beyond = values
            .iter()
            .filter(|x| (*x + 3.0).abs() > 2.0 * 2.575_829_3)
            .count();
        close("beyond 99 %", beyond as f64 / DRAWS as f64, 0.01, 0.0005); // 0.0001
    }
}

/// A walk without clamps in reach is an autoregression of order one: x' = x + a (m - x) + v Z.
#[test]
fn a_walk_is_stationary_and_forgets_at_its_rate() {
    const PULL: f64 = 0.1;
    const VOLATILITY: f64 = 0.5;
    let generator = Generator::Brownian(Brownian {
        start: 25.0,
        drift: 0.0,
        volatility: VOLATILITY,
        mean_reversion: PULL,
        mean: 25.0,
        min: -1e6,
        max: 1e6,
    });
    let memory = 1.0 - PULL;
    let deviation = VOLATILITY / (1.0 - memory * memory).sqrt();
    for seed in SEEDS {
        let values = series(&generator, seed);
        let [mean, found, skewness, kurtosis] = moments(&values);
        close("mean", mean, 25.0, 0.025); // v / a / sqrt(n) = 0.005
        close("deviation", found, deviation, 0.02); // 0.0025
        close("skewness", skewness, 0.0, 0.05);
        close("kurtosis", kurtosis, 0.0, 0.1);
        for lag in [1usize, 5, 20] {
            let wanted = memory.powi(lag as i32);
            close(
                "autocorrelation",
                autocorrelation(&values, lag),
                wanted,
                0.015,
            );
        }
        for tenth in values.chunks(values.len() / 10) {
            let [mean, found, ..] = moments(tenth);
            close("mean of a tenth", mean, 25.0, 0.08); // 0.016
            close("deviation of a tenth", found, deviation, 0.05);
        }
    }
}

#[test]
fn a_walk_between_clamps_reaches_both_and_stays_inside() {
    let generator = Generator::Brownian(Brownian {
        start: 0.0,
        drift: 0.0,
        volatility: 1.0,
        mean_reversion: 0.0,
        mean: 0.0,
        min: -20.0,
        max: 20.0,
    });
    for seed in SEEDS {
        let values = series(&generator, seed);
        assert!(values.iter().all(|x| (-20.0..=20.0).contains(x)));
        assert!(values.contains(&-20.0) && values.contains(&20.0));
        // a reflected walk fills its room evenly, but for its ends
        let middle = values.iter().filter(|x| x.abs() < 10.0).count() as f64 / DRAWS as f64;
        close("middle half", middle, 0.48, 0.06);
    }
}

#[test]
fn a_day_is_a_sine_with_noise_around_it() {
    let generator = Generator::Diurnal {
        baseline: 20.0,
        amplitude: 5.0,
        peak_hour: 14.0,
        noise_stddev: 0.5,
    };
    for seed in SEEDS {
        // eleven whole days of seconds
        let values = &series(&generator, seed)[..950_400];
        let [mean, deviation, ..] = moments(values);
        close("mean", mean, 20.0, 0.01);
        close("deviation", deviation, (12.5f64 + 0.25).sqrt(), 0.01);
        close(
            "after a day",
            autocorrelation(values, 86_400),
            12.5 / 12.75 * 10.0 / 11.0,
            0.01,
        );
        close(
            "after half a day",
            autocorrelation(values, 43_200),
            -12.5 / 12.75 * 21.0 / 22.0,
            0.01,
        );
    }
}

#[test]
fn a_chain_moves_as_often_as_its_matrix_says() {
    let matrix = vec![
        vec![0.90, 0.09, 0.01],
        vec![0.20, 0.70, 0.10],
        vec![0.00, 0.50, 0.50],
    ];
    let states: Vec<Value> = ["idle", "running", "fault"].map(|s| json!(s)).into();
    let chain = Markov::new(states, &matrix, Some(&json!("idle"))).unwrap();
    let generator = Generator::Markov(Box::new(chain));
    for seed in SEEDS {
        let values = series(&generator, seed);
        let mut moves = [[0u32; 3]; 3];
        for pair in values.windows(2) {
            moves[pair[0] as usize][pair[1] as usize] += 1;
        }
        for (from, row) in moves.iter().enumerate() {
            let left = f64::from(row.iter().sum::<u32>());
            for (to, count) in row.iter().enumerate() {
                let wanted = matrix[from][to];
                let limit = 5.0 * (wanted * (1.0 - wanted) / left).sqrt();
                let found = f64::from(*count) / left;
                assert!((found - wanted).abs() <= limit, "{from} to {to}: {found}");
            }
        }
        // the stationary distribution p = p P, solved by hand: p0 = 2 p1 and p2 = 0.24 p1
        let share =
            |state: f64| values.iter().filter(|x| **x == state).count() as f64 / DRAWS as f64;
        close("idle", share(0.0), 2.0 / 3.24, 0.01);
        close("running", share(1.0), 1.0 / 3.24, 0.01);
        close("fault", share(2.0), 0.24 / 3.24, 0.004);
    }
}

#[test]
fn parts_of_a_sum_and_fields_of_a_device_are_independent() {
    let part = Generator::Gaussian {
        mean: 0.0,
        stddev: 1.0,
    };
    let sum = Generator::Composite(Box::new([part.clone(), part.clone(), part.clone()]));
    for seed in SEEDS {
        let [_, deviation, _, kurtosis] = moments(&series(&sum, seed));
        close("deviation", deviation, 3.0f64.sqrt(), 0.008); // 0.0012
        close("kurtosis", kurtosis, 0.0, 0.024);
        let device = crate::seed::device_seed(seed, "pump-0001");
        let field = |name| series(&part, crate::seed::field_seed(device, name));
        let (a, b) = (field("temperature"), field("pressure"));
        let product = a.iter().zip(&b).map(|(a, b)| a * b).sum::<f64>() / DRAWS as f64;
        close("correlation", product, 0.0, 0.005); // 0.001
    }
}
