//! Asks before something that is hard to undo.

use std::io::{BufRead, IsTerminal, Write};

use crate::failure::Failure;
use crate::terminal::Terminal;

/// Returns if the answer is yes, or if nobody needs to be asked.
pub fn confirm(terminal: &Terminal, question: &str, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    let asks = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    if !asks || terminal.is_json() {
        return Err(Failure::new(
            "not_confirmed",
            format!("nobody is here to answer: {question}?"),
        )
        .hint("--yes does it without asking"));
    }
    let _ = write!(std::io::stderr(), "{question}? [y/N] ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    // The end of the input is no yes.
    let _ = std::io::stdin().lock().read_line(&mut answer);
    if matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
        return Ok(());
    }
    Err(Failure::new("not_confirmed", "nothing was changed"))
}
