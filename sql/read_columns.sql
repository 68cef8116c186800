-- What the columns of recorded reads come from, one row a source. A null output stands for every output column of its read: filters, joins,
-- groups and orders decide about all of them. An output without a source is constant. The column * is the rows of a version, as count(*) counts them.
SELECT read, output, expression, feature_view, version, given, "column", sequence, kind, subtype, version_id
FROM state_read_columns
ORDER BY read, output, feature_view, version, given, "column", subtype
