//! A line that shows how far something is. Only where somebody looks: on a terminal, and neither
//! with `--json` nor with `--quiet`.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use verge_node::Progress;

use crate::terminal::{Style, Terminal};

/// How often it is drawn anew.
pub const EVERY: Duration = Duration::from_millis(100);
/// What is done sooner needs no bar.
const PATIENCE: Duration = Duration::from_millis(300);
const WIDTH: usize = 28;

pub struct Bar {
    terminal: Option<Terminal>,
    what: String,
    began: Instant,
    drawn: Option<Instant>,
}

impl Bar {
    pub fn new(terminal: &Terminal, what: impl Into<String>) -> Self {
        let shows = std::io::stderr().is_terminal() && !terminal.is_json() && !terminal.is_quiet();
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let terminal = (shows && !dumb).then_some(*terminal);
        Self { terminal, what: what.into(), began: Instant::now(), drawn: None }
    }

    pub fn show(&mut self, progress: Progress) {
        let Some(terminal) = &self.terminal else { return };
        let since = self.drawn.map_or_else(|| self.began.elapsed(), |drawn| drawn.elapsed());
        let wait = if self.drawn.is_some() { EVERY } else { PATIENCE };
        if since < wait {
            return;
        }
        self.drawn = Some(Instant::now());
        let line = format!(
            "\r\u{1b}[2K{} {}",
            terminal.paint_error(Style::Accent, &self.what),
            picture(progress, self.began.elapsed())
        );
        // Who closed standard error does not look.
        let _ = write!(std::io::stderr(), "{line}").and_then(|()| std::io::stderr().flush());
    }
}

/// The line goes with the bar.
impl Drop for Bar {
    fn drop(&mut self) {
        if self.drawn.is_some() {
            let _ = write!(std::io::stderr(), "\r\u{1b}[2K");
        }
    }
}

/// `[#####.....]  42%  1.2 s`.
fn picture(progress: Progress, took: Duration) -> String {
    let seconds = took.as_secs_f64();
    if progress.total == 0 {
        return format!("{seconds:.1} s");
    }
    let share = (progress.done as f64 / progress.total as f64).clamp(0.0, 1.0);
    let full = (share * WIDTH as f64) as usize;
    let (full, empty) = ("#".repeat(full), ".".repeat(WIDTH - full));
    format!("[{full}{empty}] {:>3.0}%  {seconds:.1} s", (share * 100.0).floor())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_shows_more_than_all() {
        let shown = |done, total| picture(Progress { done, total }, Duration::from_secs(1));
        assert_eq!(shown(0, 0), "1.0 s");
        assert!(shown(5, 10).contains("[##############..............]  50%"), "{}", shown(5, 10));
        assert!(shown(11, 10).contains("100%"));
    }
}
