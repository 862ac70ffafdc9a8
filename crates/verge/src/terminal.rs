//! Everything that is printed: text for people, JSON for scripts, colours where they are wanted.
//!
//! Results go to standard output, warnings and errors to standard error; with `--json` all of
//! it is JSON on standard output. A closed pipe is no error.

use std::fmt::Write as _;
use std::io::IsTerminal;

use serde_json::{Value, json};

use crate::cli::Output;
use crate::diagnostics;
use crate::failure::Failure;
use crate::printer::{self, Item};

/// Colours by meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Good,
    Warn,
    Bad,
    Accent,
    Faint,
    Strong,
}

impl Style {
    fn code(self) -> &'static str {
        match self {
            Self::Good => "32",
            Self::Warn => "33",
            Self::Bad => "1;31",
            Self::Accent => "36",
            Self::Faint => "2",
            Self::Strong => "1",
        }
    }
}

/// Text that is coloured if its stream is.
#[derive(Clone, Copy, Debug)]
pub struct Paint(bool);

impl Paint {
    pub const PLAIN: Self = Self(false);

    pub fn paint(self, style: Style, text: &str) -> String {
        if self.0 && !text.is_empty() {
            format!("\u{1b}[{}m{text}\u{1b}[0m", style.code())
        } else {
            text.to_owned()
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Terminal {
    footer: bool,
    json: bool,
    quiet: bool,
    verbose: bool,
    out: Paint,
    err: Paint,
}

impl Terminal {
    pub fn new(output: &Output) -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let wanted =
            !output.json && !set("NO_COLOR") && std::env::var_os("TERM") != Some("dumb".into());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let terminals = std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
        Self {
            footer: terminals && !dumb && !output.json && !output.quiet,
            json: output.json,
            quiet: output.quiet,
            verbose: output.verbose,
            out: Paint(wanted && std::io::stdout().is_terminal()),
            err: Paint(wanted && std::io::stderr().is_terminal()),
        }
    }

    pub fn is_json(&self) -> bool {
        self.json
    }

    pub fn is_verbose(&self) -> bool {
        self.verbose
    }

    /// Whether lines can be kept below the others.
    pub fn has_footer(&self) -> bool {
        self.footer
    }

    /// Keeps these lines below everything else from now on, in the place of others.
    pub fn footer(&self, lines: Vec<String>) {
        if self.footer {
            printer::print(Item::Footer(lines));
        }
    }

    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Somebody looks at standard output.
    pub fn is_interactive(&self) -> bool {
        !self.json && std::io::stdout().is_terminal()
    }

    /// Colours of standard error.
    pub fn paint_error(&self, style: Style, text: &str) -> String {
        self.err.paint(style, text)
    }

    /// Colours of standard output.
    pub fn paint(&self, style: Style, text: &str) -> String {
        self.out.paint(style, text)
    }

    /// What was asked for.
    pub fn print(&self, text: &str) {
        printer::print(Item::Line(text.to_owned()));
    }

    /// Prints without waiting for the reader from now on: for a command that serves meanwhile.
    pub fn detach(&self) {
        printer::detach(if self.json {
            |lines| json!({ "event": "left_out", "lines": lines }).to_string()
        } else {
            |lines| format!("({lines} lines were left out here: nobody read them in time)")
        });
    }

    /// What is nice to know; nothing with `--quiet` or `--json`.
    pub fn note(&self, text: &str) {
        if !self.quiet && !self.json {
            self.print(text);
        }
    }

    /// The one answer of a command, for scripts.
    pub fn result(&self, value: &Value) {
        print_json(value);
    }

    /// One thing that happened, for scripts that follow a running command.
    pub fn event(&self, name: &str, mut value: Value) {
        if self.json {
            if let Some(fields) = value.as_object_mut() {
                fields.insert("event".to_owned(), name.into());
            }
            print_json(&value);
        }
    }

    /// Text for people on standard error.
    pub fn complain(&self, text: &str) {
        if !self.json {
            printer::print(Item::Complaint(text.to_owned()));
        }
    }

    pub fn warning(&self, app: &str, text: &str) {
        if self.json {
            self.event("warning", json!({ "app": app, "message": text }));
        } else {
            let word = self.err.paint(Style::Warn, "warning");
            self.complain(&format!("{word}: {text}"));
        }
    }

    /// How the command ends when it fails.
    pub fn failure(&self, failure: &Failure) {
        if self.json {
            if !failure.told {
                print_json(&json!({ "error": failure_json(failure) }));
            }
            return;
        }
        let mut text = String::new();
        for diagnostic in &failure.diagnostics {
            let _ = writeln!(text, "{}\n", diagnostics::to_text(diagnostic, self.err));
        }
        let _ = write!(text, "{}: {}", self.err.paint(Style::Bad, "error"), failure.message);
        if let Some(hint) = &failure.hint {
            let _ = write!(text, "\n{}: {hint}", self.err.paint(Style::Accent, "help"));
        }
        self.complain(&text);
    }
}

/// The fields of `{"error": …}`.
pub fn failure_json(failure: &Failure) -> Value {
    let mut value = json!({ "code": failure.code, "message": failure.message });
    if let Some(hint) = &failure.hint {
        value["hint"] = hint.as_str().into();
    }
    if !failure.diagnostics.is_empty() {
        value["diagnostics"] = json!(failure.diagnostics);
    }
    value
}

pub fn print_json(value: &Value) {
    printer::print(Item::Line(value.to_string()));
}
