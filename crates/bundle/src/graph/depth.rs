//! How deep a text may nest before it is parsed in process.
//!
//! The parser and its visitors recurse, and a stack that overflows ends the process. So text that
//! could nest deeper than the parsing thread's stack can hold is left to the bundler, which is a
//! process of its own. The measure is coarse and errs on the safe side: it also counts in strings.

use std::io;

/// Deepest brackets.
const MAX_BRACKETS: usize = 1_000;

/// Most tokens of one expression: since the last `,`, `;`, `{` or `}`.
const MAX_TOKENS: usize = 10_000;

/// Stack of the parsing thread: what those two need in a debug build, several times. Only what is
/// touched is ever real memory.
const STACK: usize = 1 << 30;

/// Whether `text` may be parsed in process, on a thread of [`with_stack`].
pub fn is_shallow(text: &str) -> bool {
    let (mut brackets, mut tokens) = (0usize, 0usize);
    let mut in_word = false;
    for byte in text.bytes() {
        let word = byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80;
        match byte {
            b'(' | b'[' | b'{' => brackets += 1,
            b')' | b']' | b'}' => brackets = brackets.saturating_sub(1),
            _ => {}
        }
        match byte {
            b',' | b';' | b'{' | b'}' => tokens = 0,
            _ if word => tokens += usize::from(!in_word),
            _ => tokens += usize::from(!byte.is_ascii_whitespace()),
        }
        in_word = word;
        if brackets > MAX_BRACKETS || tokens > MAX_TOKENS {
            return false;
        }
    }
    true
}

/// Runs `work` on a thread whose stack holds everything that is shallow.
pub fn with_stack<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("verge-transpile".into())
            .stack_size(STACK)
            .spawn_scoped(scope, work)?
            .join()
            .map_err(|_| io::Error::other("the transpiler panicked"))
    })
}
