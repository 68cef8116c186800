-- Every measure of a sample that was above its threshold.
SELECT sample, project, feature_view, version, kind, feature, measure, verdict, value, threshold, sequence, committed_at
FROM state_sample_findings
ORDER BY sequence, feature_view, version, kind, verdict, measure, feature
