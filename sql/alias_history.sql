-- Which version an alias meant, and when: it moved after not_before and not later than seen_at.
SELECT name, alias, version, not_before, seen_at, until, model, model_version, sequence
FROM state_aliases
ORDER BY sequence, name, alias
