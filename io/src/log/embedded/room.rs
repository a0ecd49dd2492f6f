//! Room made ahead: zeros behind the last record of a segment that is still written.
//!
//! A sync of a write that makes a file longer has the file system find blocks, and write down where they are and how long
//! the file is now; a sync of bytes written over zeros writes these bytes alone. So a small group that finds no room
//! brings along zeros for hundreds of others. A large one is worth a sync of that kind, and its zeros would double what
//! is written. What is left is cut off before the next segment is begun and when the log is closed; after a crash
//! recovery finds it.
//!
//! **Not here**: writing and cutting (`writer`).

/// A group of more than this part of the room is large.
const LARGE: u64 = 8;

/// The room of a segment.
#[derive(Debug)]
pub(super) struct Room {
    /// The file's length.
    end: u64,
    /// Made at once.
    ahead: u64,
    /// No room is made beyond.
    limit: u64,
}

impl Room {
    /// For a file of so many bytes, whose segment is full at `limit`; made `ahead` bytes at a time.
    pub(super) fn new(end: u64, ahead: u64, limit: u64) -> Room {
        Room { end, ahead, limit }
    }

    /// The zeros that a group of so many bytes, which ends there, brings along.
    pub(super) fn zeros(&self, bytes: u64, end: u64) -> u64 {
        if end <= self.end || bytes > self.ahead / LARGE {
            return 0;
        }
        self.ahead.min(self.limit.saturating_sub(end))
    }

    /// The file has been written up to there.
    pub(super) fn written(&mut self, end: u64) {
        self.end = self.end.max(end);
    }

    /// The file was cut there, or is another one of that length.
    pub(super) fn cut(&mut self, end: u64) {
        self.end = end;
    }

    /// Whether the file is longer than its records, which end there.
    pub(super) fn is_left(&self, position: u64) -> bool {
        self.end > position
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_groups_bring_room_for_those_that_follow() {
        let mut room = Room::new(100, 800, 1_200);
        assert_eq!(room.zeros(60, 160), 800);
        room.written(960);
        assert_eq!(room.zeros(60, 220), 0);
        assert!(room.is_left(220) && !room.is_left(960));
        // The next but for the segment's end.
        assert_eq!(room.zeros(60, 1_000), 200);
        assert_eq!(room.zeros(60, 1_230), 0);
        room.cut(220);
        assert!(!room.is_left(220));
        assert_eq!(room.zeros(60, 280), 800);
    }

    #[test]
    fn large_groups_bring_none() {
        let mut room = Room::new(0, 800, 10_000);
        assert_eq!((room.zeros(100, 100), room.zeros(101, 101)), (800, 0));
        room.written(101);
        assert!(!room.is_left(101));
        assert_eq!(Room::new(0, 0, 10_000).zeros(1, 1), 0);
    }
}
