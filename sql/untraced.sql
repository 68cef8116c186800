-- What has no column lineage, with the node that stands in the way, so that gaps are visible. Versions and columns that it read are known.
SELECT 'read' AS subject_kind, read AS subject, node,
       coalesce(reason, CASE WHEN node IS NULL THEN 'recorded by a version that traced no columns' ELSE 'not told' END) AS reason, at AS since, principal, sql AS statement
FROM state_reads
WHERE (status IS DISTINCT FROM 'complete') AND (status IS DISTINCT FROM 'denied')
ORDER BY at, read
