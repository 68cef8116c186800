//! How much memory and disk a verb that makes training sets may take.

use clap::Args;
use serving::{Memory, Serving};

use crate::serve::bytes;

#[derive(Args, Clone, Copy)]
pub struct MemoryLimits {
    /// Memory that it may hold, as 512M or 4G; what goes over it waits on disk, or is refused. Not said: half of the machine's
    #[arg(long, env = "LINEAMENT_MEMORY_LIMIT", value_parser = bytes)]
    memory_limit: Option<u64>,
    /// How much it may write to disk where memory is short, in the machine's folder for temporary files (TMPDIR). Not said: four times
    /// --memory-limit
    #[arg(long, env = "LINEAMENT_SPILL_LIMIT", value_parser = bytes)]
    spill_limit: Option<u64>,
}

impl MemoryLimits {
    /// The same store within these limits.
    pub fn of(self, serving: Serving) -> Serving {
        let memory = self.memory_limit.map_or_else(|| serving.memory().clone(), Memory::new);
        serving.with_memory(match self.spill_limit {
            Some(limit) => memory.with_spill_limit(limit),
            None => memory,
        })
    }
}
