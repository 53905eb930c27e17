//! A markov chain of named or numeric states: one transition per sample.
//!
//! The current state is the caller's (a slot of an identity block), never kept here. Bound: 64
//! states.

use serde_json::Value;

use super::noise;

/// States of one chain: a matrix is square, so 64 states are 4,096 numbers per profile.
pub const MARKOV_STATES_MAX: usize = 64;
/// How far the sum of a row may be from 1 (contract: "within 1e-9").
pub const ROW_SUM_TOLERANCE: f64 = 1e-9;

/// A checked chain: square, rows sum to 1, the initial state exists.
#[derive(Clone, Debug, PartialEq)]
pub struct Markov {
    states: Box<[Value]>,
    /// The numbers of the states; the index where a state is no number.
    numbers: Box<[f64]>,
    /// Row by row, summed up: a draw is one search in a row.
    cumulative: Box<[f64]>,
    initial: usize,
}

impl Markov {
    /// Builds a chain.
    ///
    /// # Errors
    /// A sentence for each thing that is wrong with the parts.
    pub fn new(
        states: Vec<Value>,
        matrix: &[Vec<f64>],
        initial: Option<&Value>,
    ) -> Result<Self, Vec<String>> {
        let mut wrong = faults(&states, matrix);
        let known = |initial: &Value| states.iter().position(|state| same(state, initial));
        let initial_at = initial.map_or(Some(0), known);
        if let (Some(initial), None, false) = (initial, initial_at, states.is_empty()) {
            wrong.push(format!(
                "the initial state {initial} is not one of the states"
            ));
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let all_numbers = states.iter().all(Value::is_number);
        let numbers = states
            .iter()
            .enumerate()
            .map(|(at, state)| {
                if all_numbers {
                    state.as_f64().unwrap_or(0.0)
                } else {
                    at as f64
                }
            })
            .collect();
        let mut cumulative = Vec::with_capacity(states.len() * states.len());
        for row in matrix {
            let mut sum = 0.0;
            cumulative.extend(row.iter().map(|p| {
                sum += p;
                sum
            }));
        }
        Ok(Self {
            states: states.into(),
            numbers,
            cumulative: cumulative.into(),
            initial: initial_at.unwrap_or(0),
        })
    }

    /// The index of the initial state.
    #[must_use]
    pub fn initial(&self) -> usize {
        self.initial
    }

    /// The state after `from`, for this draw.
    #[must_use]
    pub fn next(&self, from: usize, seed: u64, draw: u64, lane: u64) -> usize {
        let len = self.numbers.len();
        let from = from.min(len - 1);
        let row = &self.cumulative[from * len..(from + 1) * len];
        let u = noise::uniform(seed, draw, lane);
        // The rounding of a row's sum must not lead outside, nor to a state of probability 0.
        row.iter()
            .position(|&edge| u < edge)
            .unwrap_or_else(|| self.last_possible(row))
    }

    /// The number of a state: itself, or its index where states have no numbers.
    #[must_use]
    pub fn number(&self, at: usize) -> f64 {
        self.numbers[at.min(self.numbers.len() - 1)]
    }

    /// The states as written in the profile.
    #[must_use]
    pub fn states(&self) -> &[Value] {
        &self.states
    }

    /// Whether each state is a number.
    #[must_use]
    pub fn numeric(&self) -> bool {
        self.states.iter().all(Value::is_number)
    }

    fn last_possible(&self, row: &[f64]) -> usize {
        let total = row[row.len() - 1];
        row.iter().position(|&edge| edge >= total).unwrap_or(0)
    }
}

/// What is wrong with states and matrix.
fn faults(states: &[Value], matrix: &[Vec<f64>]) -> Vec<String> {
    let mut wrong = Vec::new();
    if states.is_empty() {
        wrong.push("a chain needs at least one state".to_owned());
    }
    if states.len() > MARKOV_STATES_MAX {
        wrong.push(format!(
            "{} states; at most {MARKOV_STATES_MAX}",
            states.len()
        ));
    }
    if matrix.len() != states.len() {
        wrong.push(format!(
            "the matrix has {} rows for {} states",
            matrix.len(),
            states.len()
        ));
    }
    for (at, row) in matrix.iter().enumerate() {
        if row.len() != states.len() {
            let (have, want) = (row.len(), states.len());
            wrong.push(format!(
                "row {at} of the matrix has {have} numbers for {want} states"
            ));
        }
        if row.iter().any(|p| !(0.0..=1.0).contains(p)) {
            wrong.push(format!(
                "row {at} of the matrix has a probability outside 0..1"
            ));
        }
        let sum: f64 = row.iter().sum();
        if (sum - 1.0).abs() > ROW_SUM_TOLERANCE {
            wrong.push(format!("row {at} of the matrix sums to {sum}, not to 1"));
        }
    }
    wrong
}

/// Equal as data: `1` and `1.0` are the same state.
fn same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn transitions_happen_as_often_as_the_matrix_says() {
        let chain = Markov::new(
            vec![json!(0.0), json!(1.0)],
            &[vec![0.5, 0.5], vec![0.02, 0.98]],
            Some(&json!(1)),
        )
        .unwrap();
        let (mut state, mut from_one, mut falls, mut ones) = (chain.initial(), 0u32, 0u32, 0u32);
        for n in 0..100_000 {
            let next = chain.next(state, 99, n, 0);
            if state == 1 {
                from_one += 1;
                falls += u32::from(next == 0);
            }
            ones += u32::from(next == 1);
            state = next;
        }
        let rate = f64::from(falls) / f64::from(from_one);
        assert!((rate - 0.02).abs() < 0.003, "{rate}");
        assert!((f64::from(ones) / 1e5 - 0.5 / 0.52).abs() < 0.01);
    }

    #[test]
    fn everything_wrong_with_a_matrix_is_said_at_once() {
        let wrong = Markov::new(
            vec![json!("a"), json!("b")],
            &[vec![0.5, 0.4], vec![1.0]],
            Some(&json!("c")),
        )
        .unwrap_err();
        assert_eq!(wrong.len(), 3, "{wrong:?}");
    }

    #[test]
    fn a_state_of_probability_zero_is_never_entered() {
        let chain = Markov::new(
            vec![json!("on"), json!("off"), json!("never")],
            &[
                vec![0.9, 0.1, 0.0],
                vec![0.7, 0.3, 0.0],
                vec![1.0, 0.0, 0.0],
            ],
            Some(&json!("on")),
        )
        .unwrap();
        let mut state = 0;
        for n in 0..50_000 {
            state = chain.next(state, 3, n, 0);
            assert_ne!(state, 2);
        }
        assert!(!chain.numeric());
        assert_eq!(chain.number(1), 1.0);
    }
}
