//! What was measured of features, as a table.

use serving::Measured;

use crate::table::aligned;

/// `whole` stands for what is measured of all together and of no feature.
pub fn print(measures: &[Measured], whole: &str) {
    let heading = ["feature", "measure", "value", "warns above", "fails above", "verdict"];
    let mut lines = vec![heading.map(str::to_owned).to_vec()];
    let limit = |limit: Option<f64>| limit.map_or(String::new(), |limit| format!("{limit:.3}"));
    lines.extend(measures.iter().map(|one| {
        vec![
            one.feature.clone().unwrap_or_else(|| whole.to_owned()),
            one.measure.to_owned(),
            format!("{:.3}", one.value),
            limit(one.warn),
            limit(one.fail),
            one.verdict.name().to_owned(),
        ]
    }));
    print!("{}", aligned(&lines, &[false, false, true, true, true, false]));
}
