-- What the values of each batch are like, feature by feature. `distinct_values` is exact where `distinct_exact`, else within some
-- 2.3 %; `frequent` lists the most frequent values where it is exact, else those of a sample of the values.
SELECT project, feature_view, version, batch, status, feature, type, "rows", nulls, nans, distinct_values, distinct_exact,
       least, greatest, mean, spread, p05, median, p95, frequent, valid_from, valid_until, sequence, committed_at, principal
FROM state_profiles
