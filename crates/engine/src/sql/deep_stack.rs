//! A stack that planning fits, wherever it is called from.
//!
//! Limits keep statements shallow enough; this is for what they do not foresee. Trees are copied, compared and dropped by
//! recursion that nothing guards, and a thread may have two mebibytes.

use std::pin::pin;

/// Left of the stack, below which a new one is taken.
const LEFT_BYTES: usize = 16 << 20;
/// A stack that is taken. Only what is touched of it takes memory.
const STACK_BYTES: usize = 64 << 20;

/// Does the work with at least `LEFT_BYTES` of stack.
pub fn with_deep_stack<T>(work: impl FnOnce() -> T) -> T {
    stacker::maybe_grow(LEFT_BYTES, STACK_BYTES, work)
}

/// Does the work with at least `LEFT_BYTES` of stack each time that it goes on.
pub async fn on_deep_stack<T>(work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    std::future::poll_fn(|context| with_deep_stack(|| work.as_mut().poll(context))).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deep(levels: u64) -> u64 {
        let filled = std::hint::black_box([levels; 32]);
        if levels == 0 { 0 } else { filled[31].min(1) + deep(levels - 1) }
    }

    #[test]
    fn work_fits_whatever_the_thread_has() {
        let small = std::thread::Builder::new().stack_size(128 << 10);
        let thread = small.spawn(|| futures::executor::block_on(on_deep_stack(async { deep(30_000) })));
        assert_eq!(thread.unwrap().join().unwrap(), 30_000);
    }
}
