//! How the kernel gives this process its memory.
//!
//! Runs on: the main thread, before others are started. Not here: how much memory is used, which every cache and queue
//! bounds for itself.

/// Asks for small pages only. The allocator asks for huge ones by itself, and the kernel clears a huge page in one go: for
/// 0.1 to 0.5 ms the thread that first touched it does nothing else, a serving core or a writer on its CPU. Where that is
/// refused, memory is as fast as the machine makes it.
pub fn refuse_huge_pages() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!("huge pages cannot be refused: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_refused_for_the_process() {
        refuse_huge_pages();
        assert!(rustix::thread::transparent_huge_pages_are_disabled().expect("every kernel tells"));
    }
}
