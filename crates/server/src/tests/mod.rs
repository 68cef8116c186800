//! Tests against a server that really listens, with arrow-flight's own clients.

mod calls;
mod fixture;
mod flight_sql;
mod hostile_sql;
mod hostile_uploads;
mod lifecycle;
mod training_sets;
