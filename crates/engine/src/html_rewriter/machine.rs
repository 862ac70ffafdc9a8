//! The parser on its own stack.

use std::borrow::Cow;
use std::cell::RefCell;
use std::rc::Rc;

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult, Yielder};
use lol_html::errors::RewritingError;
use lol_html::html_content::{Comment, Doctype, DocumentEnd, Element, TextChunk};
use lol_html::{
    AsciiCompatibleEncoding, DocumentContentHandlers, ElementContentHandlers, HandlerResult,
    HtmlRewriter, MemorySettings, Selector, Settings,
};

use super::token::{Misuse, Token};

/// The parser does not recurse; this is for what it calls, and untouched pages cost nothing.
const STACK: usize = 256 * 1024;

/// What bounds one document's rewriting.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes that the parser may hold: an unfinished tag, open elements.
    pub memory: usize,
}

/// Handlers, by their numbers, for what a selector matches or, without one, for the document.
#[derive(Debug, Default)]
pub struct Rule {
    pub selector: Option<String>,
    pub element: Option<u32>,
    pub comments: Option<u32>,
    pub text: Option<u32>,
    pub doctype: Option<u32>,
    pub end: Option<u32>,
}

/// What the machine wants next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// More input.
    Hungry,
    /// That this handler is called, with the current token.
    Call(u32),
    /// Nothing: the document is over.
    Done,
}

enum Input {
    Write(Vec<u8>),
    End,
    Resume,
}

enum Yielded {
    Hungry,
    Call(Call),
}

struct Call {
    handler: u32,
    token: Token,
    /// Where the parser stands still, for handlers that are added meanwhile.
    suspend: *const Suspend,
}

type Parser = Coroutine<Input, Yielded, Result<(), String>, DefaultStack>;
type Suspend = Yielder<Input, Yielded>;

pub struct Machine {
    /// None once the document is over or broken.
    parser: Option<Parser>,
    output: Rc<RefCell<Vec<u8>>>,
    current: Option<Call>,
}

/// Whether `selector` is one that can be matched; the error says why not.
pub fn check_selector(selector: &str) -> Result<(), String> {
    selector.parse::<Selector>().map(drop).map_err(|error| error.to_string())
}

impl Machine {
    /// `charset` as in a content type; what is unknown or unfit is read as UTF-8.
    pub fn new(rules: Vec<Rule>, charset: &str, limits: Limits) -> Result<Self, String> {
        let mut parsed = Vec::with_capacity(rules.len());
        for rule in rules {
            let selector = match &rule.selector {
                Some(text) => Some(text.parse::<Selector>().map_err(|error| error.to_string())?),
                None => None,
            };
            parsed.push((selector, rule));
        }
        let encoding = encoding_rs::Encoding::for_label(charset.as_bytes())
            .and_then(AsciiCompatibleEncoding::new)
            .unwrap_or_else(AsciiCompatibleEncoding::utf_8);
        let memory = MemorySettings::new().with_max_allowed_memory_usage(limits.memory);
        let output = Rc::new(RefCell::new(Vec::new()));
        let sink = output.clone();
        let stack = DefaultStack::new(STACK).map_err(|error| format!("no stack: {error}"))?;
        let parser = Coroutine::with_stack(stack, move |suspend: &Suspend, first: Input| {
            let settings = settings(parsed, suspend)
                .with_encoding(encoding)
                .with_memory_settings(memory)
                // Ambiguous markup passes through unrewritten, as a browser would read it.
                .with_strict(false);
            let mut rewriter = HtmlRewriter::new(settings, move |bytes: &[u8]| {
                sink.borrow_mut().extend_from_slice(bytes);
            });
            let mut input = first;
            loop {
                match input {
                    Input::Write(bytes) => rewriter.write(&bytes).map_err(said)?,
                    Input::End => return rewriter.end().map_err(said),
                    Input::Resume => {}
                }
                input = suspend.suspend(Yielded::Hungry);
            }
        });
        Ok(Self { parser: Some(parser), output, current: None })
    }

    pub fn write(&mut self, bytes: Vec<u8>) -> Result<Step, String> {
        self.step(Input::Write(bytes))
    }

    pub fn end(&mut self) -> Result<Step, String> {
        self.step(Input::End)
    }

    /// The handler that was called has returned.
    pub fn resume(&mut self) -> Result<Step, String> {
        if self.current.is_none() {
            return Err("no handler is running".to_owned());
        }
        self.step(Input::Resume)
    }

    fn step(&mut self, input: Input) -> Result<Step, String> {
        if self.current.is_some() && !matches!(input, Input::Resume) {
            return Err("a handler is still running".to_owned());
        }
        // Its pointers are void from here on.
        self.current = None;
        let parser = self.parser.as_mut().ok_or("the document is over")?;
        match parser.resume(input) {
            CoroutineResult::Yield(Yielded::Hungry) => Ok(Step::Hungry),
            CoroutineResult::Yield(Yielded::Call(call)) => {
                let handler = call.handler;
                self.current = Some(call);
                Ok(Step::Call(handler))
            }
            CoroutineResult::Return(result) => {
                self.parser = None;
                result.map(|()| Step::Done)
            }
        }
    }

    /// What was written since the last call.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output.borrow_mut())
    }

    /// The token of the handler that is running.
    pub fn token(&self) -> Option<&Token> {
        self.current.as_ref().map(|call| &call.token)
    }

    /// Has `handler` called at the end tag of the current element.
    pub fn on_end_tag(&mut self, handler: u32) -> Result<(), Misuse> {
        let Some(Call { token: Token::Element(element), suspend, .. }) = self.current else {
            return Err(Misuse::NotHere);
        };
        // SAFETY: the parser is suspended in this element's handler, so the element is alive.
        let handlers = unsafe { &mut *element }.end_tag_handlers().ok_or(Misuse::NoEndTag)?;
        handlers.push(Box::new(move |tag| {
            // SAFETY: only the parser calls this, on the coroutine whose yielder it is.
            let suspend = unsafe { &*suspend };
            call(suspend, handler, Token::EndTag(std::ptr::from_mut(tag).cast()))
        }));
        Ok(())
    }
}

/// Hands a token out and waits until its handler is through.
fn call(suspend: &Suspend, handler: u32, token: Token) -> HandlerResult {
    let call = Call { handler, token, suspend };
    match suspend.suspend(Yielded::Call(call)) {
        Input::Resume => Ok(()),
        Input::Write(_) | Input::End => Err("input came while a handler was running".into()),
    }
}

fn said(error: RewritingError) -> String {
    error.to_string()
}

fn settings<'h>(
    rules: Vec<(Option<Selector>, Rule)>,
    suspend: &'h Suspend,
) -> Settings<'h, 'static> {
    let mut settings = Settings::new();
    for (selector, rule) in rules {
        match selector {
            Some(selector) => {
                let handlers = element_handlers(&rule, suspend);
                settings =
                    settings.append_element_content_handler((Cow::Owned(selector), handlers));
            }
            None => {
                let handlers = document_handlers(&rule, suspend);
                settings = settings.append_document_content_handler(handlers);
            }
        }
    }
    settings
}

fn element_handlers<'h>(rule: &Rule, suspend: &'h Suspend) -> ElementContentHandlers<'h> {
    let mut handlers = ElementContentHandlers::default();
    if let Some(handler) = rule.element {
        handlers = handlers.element(move |element: &mut Element<'_, '_>| {
            call(suspend, handler, Token::Element(std::ptr::from_mut(element).cast()))
        });
    }
    if let Some(handler) = rule.comments {
        handlers = handlers.comments(move |comment: &mut Comment<'_>| {
            call(suspend, handler, Token::Comment(std::ptr::from_mut(comment).cast()))
        });
    }
    if let Some(handler) = rule.text {
        handlers = handlers.text(move |text: &mut TextChunk<'_>| {
            call(suspend, handler, Token::Text(std::ptr::from_mut(text).cast()))
        });
    }
    handlers
}

fn document_handlers<'h>(rule: &Rule, suspend: &'h Suspend) -> DocumentContentHandlers<'h> {
    let mut handlers = DocumentContentHandlers::default();
    if let Some(handler) = rule.doctype {
        handlers = handlers.doctype(move |doctype: &mut Doctype<'_>| {
            call(suspend, handler, Token::Doctype(std::ptr::from_mut(doctype).cast()))
        });
    }
    if let Some(handler) = rule.comments {
        handlers = handlers.comments(move |comment: &mut Comment<'_>| {
            call(suspend, handler, Token::Comment(std::ptr::from_mut(comment).cast()))
        });
    }
    if let Some(handler) = rule.text {
        handlers = handlers.text(move |text: &mut TextChunk<'_>| {
            call(suspend, handler, Token::Text(std::ptr::from_mut(text).cast()))
        });
    }
    if let Some(handler) = rule.end {
        handlers = handlers.end(move |end: &mut DocumentEnd<'_>| {
            call(suspend, handler, Token::DocumentEnd(std::ptr::from_mut(end).cast()))
        });
    }
    handlers
}

#[cfg(test)]
mod tests {
    use super::{Limits, Machine, Rule, Step, check_selector};
    use crate::html_rewriter::Place;

    const PAGE: &str =
        "<!doctype html><div id=a class='x'>one <b>two</b><!-- c --><p>three</p></div>";
    const LIMITS: Limits = Limits { memory: 1 << 20 };

    fn rules() -> Vec<Rule> {
        let on = |selector: &str| Rule { selector: Some(selector.to_owned()), ..Rule::default() };
        vec![
            Rule { element: Some(0), ..on("div") },
            Rule { element: Some(1), text: Some(2), ..on("b") },
            Rule { doctype: Some(3), comments: Some(4), end: Some(5), ..Rule::default() },
        ]
    }

    /// What the handlers of `rules` do.
    fn handle(machine: &mut Machine, handler: u32) {
        if handler == 0 {
            machine.on_end_tag(6).expect("a div has an end tag");
        }
        let token = machine.token().expect("a token");
        match handler {
            0 => token.set_attribute("id", "<\"z\">").expect("an attribute"),
            1 => token.set_name("strong").expect("a name"),
            2 if token.is_last_in_text_node().expect("text") => {}
            2 => token.insert(Place::Replace, "2 < 3", false).expect("text"),
            3 => assert_eq!(token.name().expect("a doctype").as_deref(), Some("html")),
            4 => token.set_text(" d ").expect("a comment"),
            5 => token.insert(Place::Append, "<!-- end -->", true).expect("the end"),
            6 => token.insert(Place::Before, "<i>4</i>", true).expect("an end tag"),
            other => panic!("no handler {other}"),
        }
    }

    fn rewrite<'p>(parts: impl IntoIterator<Item = &'p [u8]>) -> String {
        let mut machine = Machine::new(rules(), "utf-8", LIMITS).expect("a machine");
        for part in parts {
            let mut step = machine.write(part.to_vec()).expect("input");
            while let Step::Call(handler) = step {
                handle(&mut machine, handler);
                step = machine.resume().expect("goes on");
            }
            assert_eq!(step, Step::Hungry);
        }
        let mut step = machine.end().expect("the end");
        while let Step::Call(handler) = step {
            handle(&mut machine, handler);
            step = machine.resume().expect("goes on");
        }
        assert_eq!(step, Step::Done);
        assert!(machine.write(Vec::new()).is_err(), "it is over");
        String::from_utf8(machine.take_output()).expect("UTF-8")
    }

    const REWRITTEN: &str = "<!doctype html><div id=\"<&quot;z&quot;>\" class='x'>one <strong>2 &lt; 3</strong><!-- d --><p>three</p><i>4</i></div><!-- end -->";

    #[test]
    fn handlers_change_the_document() {
        assert_eq!(rewrite([PAGE.as_bytes()]), REWRITTEN);
    }

    #[test]
    fn where_the_input_is_cut_does_not_matter_outside_of_text() {
        let text = PAGE.find("two").expect("there") + 1;
        for at in (0..PAGE.len()).filter(|at| !(text..text + 2).contains(at)) {
            let (a, b) = PAGE.as_bytes().split_at(at);
            assert_eq!(rewrite([a, b]), REWRITTEN, "cut at {at}");
        }
    }

    #[test]
    fn a_machine_may_be_dropped_in_the_middle_of_a_handler() {
        let mut machine = Machine::new(rules(), "", LIMITS).expect("a machine");
        assert_eq!(machine.write(PAGE.into()), Ok(Step::Call(3)));
        assert!(machine.write(Vec::new()).is_err(), "a handler is running");
        drop(machine);
        let mut machine = Machine::new(rules(), "", LIMITS).expect("a machine");
        assert!(machine.resume().is_err(), "no handler is running");
        assert_eq!(machine.write(Vec::new()), Ok(Step::Hungry));
    }

    #[test]
    fn memory_is_bounded() {
        let mut machine = Machine::new(rules(), "", LIMITS).expect("a machine");
        let endless_tag = vec![b'a'; 64 * 1024];
        let mut step = machine.write(b"<b x=\"".to_vec());
        for _ in 0..100 {
            if step.is_err() {
                return;
            }
            step = machine.write(endless_tag.clone());
        }
        panic!("6 MB in one tag were held");
    }

    #[test]
    fn selectors_are_checked() {
        check_selector("a[href^='x'] > b:nth-child(2)").expect("a selector");
        for wrong in ["", "a::before", "a[", "a + b", ":hover"] {
            assert!(check_selector(wrong).is_err(), "{wrong}");
        }
    }
}
