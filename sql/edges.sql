-- The whole lineage graph. Edges point the way that data flows, and are pinned to versions and sequences.
SELECT edge, from_kind, "from", from_label, to_kind, "to", to_label, "rows", cells, role, sequence
FROM state_edges
ORDER BY sequence, edge, "from", "to"
