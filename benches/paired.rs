//! Figures of two ways that were taken in turns.

/// A number that looks random and is the same each time.
pub fn scattered(number: usize) -> u64 {
    let mixed = (number as u64).wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ (mixed >> 29)).wrapping_mul(0x94d0_49bb_1331_11eb).rotate_left(31)
}

/// The median of the rounds' ratios, and the bounds of 95 of 100 medians of as many rounds drawn anew.
pub fn overhead(pairs: &[(f64, f64)]) -> (f64, f64, f64) {
    let ratios: Vec<f64> = pairs.iter().map(|(without, with)| with / without).collect();
    let mut drawn: Vec<f64> = (0..2_000)
        .map(|draw| {
            let place = |at: usize| scattered(draw * ratios.len() + at) as usize % ratios.len();
            median((0..ratios.len()).map(|at| ratios[place(at)]).collect())
        })
        .collect();
    drawn.sort_by(f64::total_cmp);
    (median(ratios), drawn[drawn.len() / 40], drawn[drawn.len() - 1 - drawn.len() / 40])
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) }
}

/// In microseconds, or in milliseconds where these are many.
pub fn shown(seconds: f64) -> String {
    if seconds.abs() < 0.01 {
        format!("{:.1} µs", seconds * 1e6)
    } else {
        format!("{:.1} ms", seconds * 1e3)
    }
}
