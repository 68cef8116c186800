//! What messages may claim. Each is far above what real rows need and far below what would harm the process.

/// What depends on where messages come from.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Rows of a message, and values of a nested column.
    pub rows: u64,
    /// Bytes that the compressed buffers of a message may unfold to.
    pub unfolded_bytes: u64,
}

impl Limits {
    /// Of messages that come over the network.
    pub const SENT: Self = Self { rows: 16 << 20, unfolded_bytes: 256 << 20 };
    /// Of those in a file that is there whole: they are as large as its writer's memory was.
    pub const STORED: Self = Self { rows: 1 << 40, unfolded_bytes: 1 << 50 };
}

/// How many times its own size a message may unfold to,
pub const UNFOLDED_RATIO: u64 = 1_000;
/// … unless they are fewer than this: a constant column compresses better than any ratio.
pub const UNFOLDED_FLOOR: u64 = 16 << 20;
/// Columns, nested ones included.
pub const COLUMNS: usize = 10_000;
/// How deep columns may nest.
pub const DEPTH: usize = 16;
/// Bytes of all names and metadata of a schema.
pub const SCHEMA_BYTES: usize = 16 << 20;
/// Bytes of a value of a type of fixed size, and elements of a list of fixed size.
pub const FIXED_SIZE: i32 = 1 << 20;
