//! A dataset's data in small: pages of accounts, whose balances always have the same sum, and of
//! lists, to which each write appends its number. Segments carry whole pages, as the real do.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::content::{ACCOUNTS, Content, EACH, LISTS, Write};

const FIRST_LIST: u32 = 100;

/// A page's content by its number.
pub type Pages = BTreeMap<u32, Bytes>;

/// Pages and their rolling checksum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Data {
    pages: Pages,
    checksum: u64,
}

impl Default for Data {
    /// What every dataset begins as.
    fn default() -> Self {
        let mut data = Self { pages: Pages::new(), checksum: 0 };
        for account in 0..ACCOUNTS {
            data.put(1 + account, Bytes::copy_from_slice(&EACH.to_le_bytes()));
        }
        data
    }
}

impl Data {
    pub fn from_pages(pages: Pages) -> Self {
        let checksum = pages.iter().fold(0, |sum, (number, page)| sum ^ hash(*number, page));
        Self { pages, checksum }
    }

    pub fn pages(&self) -> &Pages {
        &self.pages
    }

    pub fn checksum(&self) -> u64 {
        self.checksum
    }

    pub fn put(&mut self, number: u32, page: Bytes) {
        self.checksum ^= hash(number, &page);
        if let Some(old) = self.pages.insert(number, page) {
            self.checksum ^= hash(number, &old);
        }
    }

    pub fn content(&self) -> Content {
        let balances = (0..ACCOUNTS).map(|account| self.balance(account)).collect();
        Content { balances, lists: self.lists() }
    }

    fn balance(&self, account: u32) -> i64 {
        self.pages.get(&(1 + account)).map_or(0, |page| page.clone().try_get_i64_le().unwrap_or(0))
    }

    fn list(&self, list: u32) -> Vec<u32> {
        let mut page = self.pages.get(&(FIRST_LIST + list)).cloned().unwrap_or_default();
        let mut out = Vec::with_capacity(page.len() / 4);
        while let Ok(value) = page.try_get_u32_le() {
            out.push(value);
        }
        out
    }

    pub fn lists(&self) -> Vec<Vec<u32>> {
        (0..LISTS).map(|list| self.list(list)).collect()
    }

    fn set_balance(&mut self, account: u32, balance: i64) {
        self.put(1 + account, Bytes::copy_from_slice(&balance.to_le_bytes()));
    }
}

/// Runs a write; false, and nothing changed, if the account has too little.
pub fn run(write: &Write, data: &mut Data) -> bool {
    if data.balance(write.from) < write.amount || write.from == write.to {
        return false;
    }
    debit(write, data);
    data.set_balance(write.to, data.balance(write.to) + write.amount);
    let number = FIRST_LIST + write.list;
    let mut page = BytesMut::from(&data.pages.get(&number).cloned().unwrap_or_default()[..]);
    page.put_u32_le(write.op);
    data.put(number, page.freeze());
    true
}

/// A write's first page, what a torn capture would take along.
pub fn debit(write: &Write, data: &mut Data) {
    data.set_balance(write.from, data.balance(write.from) - write.amount);
}

/// The pages that differ between two states, as a segment's bytes.
pub fn difference(before: &Data, after: &Data) -> Bytes {
    let changed: Pages = after
        .pages
        .iter()
        .filter(|(number, page)| before.pages.get(number) != Some(page))
        .map(|(number, page)| (*number, page.clone()))
        .collect();
    encode(&changed)
}

pub fn encode(pages: &Pages) -> Bytes {
    let mut out = BytesMut::new();
    for (number, page) in pages {
        out.put_u32_le(*number);
        out.put_u32_le(page.len() as u32);
        out.put_slice(page);
    }
    out.freeze()
}

/// The pages in a segment or a snapshot; `None` if it is torn.
pub fn decode(mut bytes: Bytes) -> Option<Pages> {
    let mut pages = Pages::new();
    while !bytes.is_empty() {
        let number = bytes.try_get_u32_le().ok()?;
        let length = bytes.try_get_u32_le().ok()? as usize;
        if length > bytes.len() {
            return None;
        }
        pages.insert(number, bytes.split_to(length));
    }
    Some(pages)
}

/// The writes that a segment's pages show at the ends of its lists, for listing a lost tail.
pub fn ops_in(bytes: &Bytes) -> Vec<u32> {
    let pages = decode(bytes.clone()).unwrap_or_default();
    Data::from_pages(pages).lists().concat()
}

fn hash(number: u32, page: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325 ^ (u64::from(number) << 32);
    for byte in page {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash ^ (hash >> 29)
}
