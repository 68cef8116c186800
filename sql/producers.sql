-- Who sends rows as a stream, and into which view: the last part that is committed (its epoch and its number in it), how many epochs, parts
-- and rows there were in all, and the batch and the entry that hold the last part.
SELECT project, feature_view, producer, epoch, "number", epochs, parts, "rows", rejected, batch,
       sequence, committed_at, principal, program, run, experiment
FROM state_producers
ORDER BY project, feature_view, producer
