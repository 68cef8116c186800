-- Erasures of entities: from that sequence on their values are gone, from earlier snapshots too. `rows` of data files, `objects` that were put
-- in the place of others or deleted, `training_sets` that had rows of them, and how many of these no replay can prove any more (`unprovable`).
-- It names nobody.
SELECT erasure, entity, views, keys, "rows", objects, training_sets, unprovable, reason, request,
       sequence, committed_at, principal, program, run, experiment
FROM state_erasures
ORDER BY sequence, erasure
