//! `HTMLRewriter`: lol_html in a coroutine, so that handlers in JavaScript may be async.
//!
//! lol_html calls handlers from deep inside its parser and wants their answer at once. The
//! parser therefore runs on a stack of its own. A handler suspends it and hands out the token;
//! JavaScript works on that token through ops, for as long as it likes, and resumes the parser.
//! No JavaScript ever runs on the coroutine's stack.

mod machine;
mod token;

pub use machine::{Limits, Machine, Rule, Step, check_selector};
pub use token::{Misuse, Place, Token};
