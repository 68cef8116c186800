//! Tests against a server that really listens, with arrow-flight's own clients.

mod admission;
mod callers;
mod calls;
mod cut_uploads;
mod fixture;
mod flight_sql;
mod heavy_sql;
mod hostile_names;
mod hostile_sql;
mod hostile_tokens;
mod hostile_uploads;
mod large_spines;
mod lifecycle;
mod metrics;
mod protocol_actions;
mod sealed_tickets;
mod spines;
mod sql_corpus;
mod stream_put;
mod stretches;
mod token_issuer;
mod training_sets;
