//! What is known of functions: which have a rule, and which of their arguments only choose.

use std::collections::HashSet;
use std::sync::LazyLock;

use datafusion::execution::SessionStateDefaults;

/// How the arguments of a scalar function bear on its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arguments {
    /// Each is part of the value.
    Computed,
    /// The first that is not null stands: all but the last are tested, and any may be the value.
    FirstThatIsNotNull,
    /// The first stands unless it equals the second.
    NullIfEqual,
    /// The first is only tested; one of the others stands.
    OneOfTwo,
}

/// How a window function gives its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InWindow {
    /// A place in the order; its arguments are constants.
    Rank,
    /// The value of another row.
    Picked,
    Aggregated,
}

/// Functions of the library, which compute from their arguments and from nothing else in the store. `||` is ours.
static SCALAR: LazyLock<HashSet<String>> = LazyLock::new(|| {
    let functions = SessionStateDefaults::default_scalar_functions();
    let known = functions.iter().map(|function| function.name().to_owned());
    known.chain(["||".to_owned()]).collect()
});
static HIGHER_ORDER: LazyLock<HashSet<String>> = LazyLock::new(|| {
    let functions = SessionStateDefaults::default_higher_order_functions();
    functions.iter().map(|function| function.name().to_owned()).collect()
});
static AGGREGATE: LazyLock<HashSet<String>> = LazyLock::new(|| {
    let functions = SessionStateDefaults::default_aggregate_functions();
    functions.iter().map(|function| function.name().to_owned()).collect()
});

/// The rule of a scalar function; none for one that is not known.
pub fn scalar(name: &str) -> Option<Arguments> {
    match name {
        "coalesce" | "nvl" => Some(Arguments::FirstThatIsNotNull),
        "nullif" => Some(Arguments::NullIfEqual),
        "nvl2" => Some(Arguments::OneOfTwo),
        _ => SCALAR.contains(name).then_some(Arguments::Computed),
    }
}

/// Whether a function over lists, with a lambda, has a rule.
pub fn is_higher_order(name: &str) -> bool {
    HIGHER_ORDER.contains(name)
}

pub fn is_aggregate(name: &str) -> bool {
    AGGREGATE.contains(name)
}

/// The rule of a window function; none for one that is not known.
pub fn window(name: &str) -> Option<InWindow> {
    match name {
        "row_number" | "rank" | "dense_rank" | "percent_rank" | "cume_dist" | "ntile" => Some(InWindow::Rank),
        "lag" | "lead" | "first_value" | "last_value" | "nth_value" => Some(InWindow::Picked),
        _ => is_aggregate(name).then_some(InWindow::Aggregated),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_window_function_of_the_library_has_a_rule() {
        for function in SessionStateDefaults::default_window_functions() {
            let rule = window(function.name());
            assert!(matches!(rule, Some(InWindow::Rank | InWindow::Picked)), "{}", function.name());
        }
    }

    #[test]
    fn what_tests_its_arguments_is_known_under_the_name_that_plans_carry() {
        let defaults = SessionStateDefaults::default_scalar_functions();
        for name in ["coalesce", "nvl", "nullif", "nvl2"] {
            assert!(defaults.iter().any(|function| function.name() == name), "{name}");
        }
        assert_eq!(scalar("frobnicate"), None);
        assert_eq!(window("frobnicate"), None);
    }
}
