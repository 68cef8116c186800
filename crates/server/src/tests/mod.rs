//! Tests against a server that really listens, with arrow-flight's own clients.

mod calls;
mod cut_uploads;
mod fixture;
mod flight_sql;
mod heavy_sql;
mod hostile_names;
mod hostile_sql;
mod hostile_uploads;
mod lifecycle;
mod protocol_actions;
mod spines;
mod sql_corpus;
mod stretches;
mod training_sets;
