-- How the numbers of each batch are spread, feature by feature: a row a bin that has any, from `least` to `greatest`, each at most 0.8 % of its
-- values wide. The edges are the same for every batch, so that bins of several are added up: GROUP BY least, greatest. Dates are in days and times in
-- microseconds since 1970. Nulls, NaN, infinite numbers and texts are in no bin; lineament.profiles counts them.
SELECT project, feature_view, version, batch, status, feature, type, least, greatest, "count", sequence, committed_at, principal
FROM state_profile_bins
