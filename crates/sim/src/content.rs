//! What clients work on: accounts, whose balances always have the same sum, and lists, to which
//! each write appends its number.

pub const ACCOUNTS: u32 = 8;
pub const LISTS: u32 = 4;
pub const EACH: i64 = 100;
pub const TOTAL: i64 = ACCOUNTS as i64 * EACH;

/// All of it at some position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    pub balances: Vec<i64>,
    pub lists: Vec<Vec<u32>>,
}

impl Default for Content {
    /// What every dataset begins as.
    fn default() -> Self {
        Self { balances: vec![EACH; ACCOUNTS as usize], lists: vec![Vec::new(); LISTS as usize] }
    }
}

impl Content {
    pub fn total(&self) -> i64 {
        self.balances.iter().sum()
    }

    /// What `write` must do; false, and nothing changed, if the account has too little.
    pub fn run(&mut self, write: &Write) -> bool {
        let (from, to) = (write.from as usize, write.to as usize);
        if from == to || self.balances[from] < write.amount {
            return false;
        }
        self.balances[from] -= write.amount;
        self.balances[to] += write.amount;
        self.lists[write.list as usize].push(write.op);
        true
    }
}

/// A transaction: moves money and appends its own number to a list.
#[derive(Clone, Copy, Debug)]
pub struct Write {
    pub op: u32,
    pub list: u32,
    pub from: u32,
    pub to: u32,
    pub amount: i64,
}
