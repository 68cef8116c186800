-- Column lineage, an edge a row: which column of which version bears on which output column of a recorded training set, of a batch that a refresh of
-- a derived view made, or of a recorded read (subject_kind says which). A null output stands for every output column of its read; the column * is the
-- rows of a version; `given` names rows that the caller gave. sequence is the snapshot that was read. Of a subject all edges are told, or none.
SELECT 'training_set' AS subject_kind, subject, label AS subject_label, output, expression, project, feature_view, version, given, "column",
       kind, subtype, CASE WHEN version_id IS NOT NULL THEN snapshot END AS sequence, version_id
FROM state_set_edges
UNION ALL
SELECT 'batch' AS subject_kind, subject, label AS subject_label, output, expression, project, feature_view, version, given, "column",
       kind, subtype, CASE WHEN version_id IS NOT NULL THEN snapshot END AS sequence, version_id
FROM state_batch_edges
UNION ALL
SELECT 'read' AS subject_kind, subject, label AS subject_label, output, expression, project, feature_view, version, given, "column",
       kind, subtype, snapshot AS sequence, version_id
FROM state_read_edges
WHERE "column" IS NOT NULL
ORDER BY subject_kind, subject, output, project, feature_view, version, given, "column", subtype
