-- Every measure of a batch that was above its threshold.
SELECT project, feature_view, version, batch, status, feature, measure, verdict, value, threshold, sequence, committed_at
FROM state_findings
