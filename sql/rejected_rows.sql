-- Rows that ingest rejected, one line a reason; source_row is the row as it came, in JSON, and mended_by the batch that has it, mended.
SELECT project, feature_view, version, batch, origin, "row", reason, "column", "value", message, source_row, mended_by
FROM state_rejections
ORDER BY feature_view, batch, origin, "row", reason
