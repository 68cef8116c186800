//! Tests of the content digest: the published vectors, and what must not and what must change it.

mod arrays;
mod invariance;
mod refusals;
mod vectors;
