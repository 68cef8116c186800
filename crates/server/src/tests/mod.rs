//! Tests against a server that really listens, with arrow-flight's own clients.

mod admission;
mod calls;
mod cut_uploads;
mod fixture;
mod flight_sql;
mod heavy_sql;
mod hostile_names;
mod hostile_sql;
mod hostile_uploads;
mod lifecycle;
mod metrics;
mod sql_corpus;
mod training_sets;
