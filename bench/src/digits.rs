//! Numbers as people read them.

/// A whole number as it is, with its thousands apart; any other with three digits that count, so
/// that what is small never reads as nothing.
pub(crate) fn read(value: f64) -> String {
    let text = format!("{:.*}", decimals(value), value.abs());
    let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
    let mut read = String::new();
    if value < 0.0 {
        read.push('-');
    }
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place).is_multiple_of(3) {
            read.push(',');
        }
        read.push(digit);
    }
    if !part.is_empty() {
        read.push('.');
        read.push_str(part);
    }
    read
}

/// Places behind the point: by the exponent of the value once it is rounded.
fn decimals(value: f64) -> usize {
    if value.fract() == 0.0 {
        return 0;
    }
    let rounded = format!("{value:.2e}");
    let exponent = rounded.split_once('e').and_then(|(_, e)| e.parse().ok());
    usize::try_from(2 - exponent.unwrap_or(2_i32)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_told_from_little() {
        let cases = [
            (0.0, "0"),
            (-0.0, "0"),
            (0.004, "0.00400"),
            (0.000_012_34, "0.0000123"),
            (0.999_6, "1.00"),
            (1.0, "1"),
            (-0.25, "-0.250"),
        ];
        for (value, text) in cases {
            assert_eq!(read(value), text);
        }
    }

    #[test]
    fn three_digits_count_and_thousands_stand_apart() {
        let cases = [
            (9.996, "10.0"),
            (12.345, "12.3"),
            (99.96, "100"),
            (999.4, "999"),
            (1_000.0, "1,000"),
            (-1_234_567.8, "-1,234,568"),
        ];
        for (value, text) in cases {
            assert_eq!(read(value), text);
        }
    }
}
