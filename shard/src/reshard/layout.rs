//! The layout file: for how many partitions and shards the stores beside it were made.
//!
//! Two lines of text, replaced atomically: `partitions 256`, then `shards 3` or `shards moving`.

use crate::store::{Place, StoreError};
use std::fs::{self, File};
use std::io::{self, Write};
use std::num::NonZeroU32;
use std::path::Path;

const FILE: &str = "layout";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) partitions: NonZeroU32,
    /// `None` while partitions are on the move.
    pub(super) shards: Option<NonZeroU32>,
}

impl Layout {
    /// The layout as it was left, `None` when there is none yet.
    pub(super) fn read(root: &Path) -> Result<Option<Layout>, StoreError> {
        match fs::read_to_string(root.join(FILE)) {
            Ok(text) => Layout::parse(&text)
                .map(Some)
                .ok_or_else(|| Place::store(root).layout(format!("the file {FILE} is unreadable: {text:?}"))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Place::store(root).io(error)),
        }
    }

    /// Replaces the layout; it is on disk when this returns.
    pub(super) fn write(&self, root: &Path) -> Result<(), StoreError> {
        let replace = || {
            let fresh = root.join(format!("{FILE}.new"));
            let mut file = File::create(&fresh)?;
            file.write_all(self.print().as_bytes())?;
            file.sync_all()?;
            fs::rename(&fresh, root.join(FILE))?;
            File::open(root)?.sync_all()
        };
        replace().map_err(|error| Place::store(root).io(error))
    }

    fn print(&self) -> String {
        let shards = self.shards.map_or_else(|| "moving".to_owned(), |shards| shards.to_string());
        format!("partitions {}\nshards {shards}\n", self.partitions)
    }

    fn parse(text: &str) -> Option<Layout> {
        let mut lines = text.lines();
        let partitions = lines.next()?.strip_prefix("partitions ")?.parse().ok()?;
        let shards = match lines.next()?.strip_prefix("shards ")? {
            "moving" => None,
            number => Some(number.parse().ok()?),
        };
        lines.next().is_none().then_some(Layout { partitions, shards })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_printed_and_read_back() {
        let three = NonZeroU32::new(3);
        let layout = Layout { partitions: NonZeroU32::MIN, shards: three };
        assert_eq!(layout.print(), "partitions 1\nshards 3\n");
        for layout in [layout, Layout { shards: None, ..layout }] {
            assert_eq!(Layout::parse(&layout.print()), Some(layout));
        }
        for text in [
            "",
            "partitions 1\n",
            "partitions 0\nshards 1\n",
            "partitions 1\nshards x\n",
            "partitions 1\nshards 1\n\n",
        ] {
            assert_eq!(Layout::parse(text), None, "{text:?}");
        }
    }
}
