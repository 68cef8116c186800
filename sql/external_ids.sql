-- Foreign ids beside ours: what a run, an experiment or a model is called where it comes from.
SELECT id, kind, system, authority, external_id, how, committed_at AS first_seen, principal AS seen_by, sequence
FROM state_links
ORDER BY sequence, kind, external_id
