//! What an upload may claim. Each is far above what real uploads need and far below what would harm the process.

/// Bytes that the compressed buffers of a message may unfold to.
pub const UNFOLDED_BYTES: u64 = 256 << 20;
/// … and how many times the message's own size,
pub const UNFOLDED_RATIO: u64 = 1_000;
/// … unless they are fewer than this: a constant column compresses better than any ratio.
pub const UNFOLDED_FLOOR: u64 = 16 << 20;
/// Bytes of all decoded rows of one upload that are held in memory.
pub const UPLOAD_BYTES: u64 = 4 << 30;
/// Rows of a message, and values of a nested column.
pub const ROWS: u64 = 16 << 20;
/// Columns, nested ones included.
pub const COLUMNS: usize = 10_000;
/// How deep columns may nest.
pub const DEPTH: usize = 16;
/// Bytes of all names and metadata of a schema.
pub const SCHEMA_BYTES: usize = 16 << 20;
/// Bytes of a value of a type of fixed size, and elements of a list of fixed size.
pub const FIXED_SIZE: i32 = 1 << 20;
