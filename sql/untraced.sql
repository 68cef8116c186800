-- What has no column lineage, so that gaps are visible: reads, with the node that stands in the way, and batches of derived views, whose
-- queries `lineament plan` looks through. Versions and columns that were read are known.
SELECT 'read' AS subject_kind, read AS subject, node,
       coalesce(reason, CASE WHEN node IS NULL THEN 'recorded by a version that traced no columns' ELSE 'not told' END) AS reason, at AS since, principal, sql AS statement
FROM state_reads
WHERE (status IS DISTINCT FROM 'complete') AND (status IS DISTINCT FROM 'denied')
UNION ALL
SELECT 'batch' AS subject_kind, batch AS subject, node,
       'the query of ' || view_version || ' could not be traced, or was run by a version that traced no columns' AS reason, committed_at AS since, principal, sql AS statement
FROM state_untraced
ORDER BY since, subject
