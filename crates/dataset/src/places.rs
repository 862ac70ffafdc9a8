//! Where in the `-wal` the pages of a group are that changed too much to be held in memory: 16
//! bytes a page.

use crate::checksum::page_hash;
use crate::wal::Frame;

/// The last image of one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) number: u32,
    /// Its frame; 0 for a page that is in no frame and is asked from SQLite.
    pub(crate) frame: u32,
    /// Of what was validated: what is read again later must be the same.
    pub(crate) hash: u64,
}

/// The last image of each page that whole transactions wrote.
#[derive(Debug, Default)]
pub(crate) struct Places {
    /// Rising by number, once [`Self::settle`] was called.
    list: Vec<Place>,
    /// Size of the database after the last commit frame, in pages; 0 if there was none.
    pub(crate) db_pages: u32,
}

impl Places {
    /// For at most so many frames.
    pub(crate) fn new(frames: u32) -> Self {
        Self { list: Vec::with_capacity(frames as usize), db_pages: 0 }
    }

    pub(crate) fn take(&mut self, frame: &Frame<'_>) {
        self.put(frame.number, frame.place, frame.page);
        if frame.db_pages != 0 {
            self.db_pages = frame.db_pages;
        }
    }

    /// A page of no frame. Call [`Self::settle`] after the last.
    pub(crate) fn put_hole(&mut self, number: u32, page: &[u8]) {
        self.put(number, 0, page);
    }

    fn put(&mut self, number: u32, frame: u32, page: &[u8]) {
        self.list.push(Place { number, frame, hash: page_hash(number, page) });
    }

    /// Leaves the last image of each page, and none beyond the database's end: a later transaction
    /// of the group cut it.
    pub(crate) fn settle(&mut self) {
        self.list.sort_unstable_by_key(|place| (place.number, place.frame));
        self.list.dedup_by(|later, kept| {
            let same = later.number == kept.number;
            if same {
                *kept = *later;
            }
            same
        });
        let within = self.list.partition_point(|place| place.number <= self.db_pages);
        self.list.truncate(within);
    }

    /// Rising by number.
    pub(crate) fn list(&self) -> &[Place] {
        &self.list
    }

    pub(crate) fn contains(&self, number: u32) -> bool {
        self.list.binary_search_by_key(&number, |place| place.number).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_image_of_each_page_within_the_database_is_left() {
        let mut places = Places::new(5);
        let page = |byte| vec![byte; 512];
        for (place, number, db_pages) in [(1, 7, 0), (2, 3, 9), (3, 9, 0), (4, 3, 8)] {
            let page = page(u8::try_from(place).unwrap());
            places.take(&Frame { place, number, db_pages, page: &page });
        }
        places.put_hole(8, &page(9));
        places.settle();
        let left: Vec<_> = places.list().iter().map(|place| (place.number, place.frame)).collect();
        assert_eq!(left, [(3, 4), (7, 1), (8, 0)]);
        assert_eq!(places.list()[0].hash, page_hash(3, &page(4)));
        assert!(places.contains(7) && !places.contains(9));
    }
}
