//! `HTMLRewriter`'s ops: js/runtime/html_rewriter.js drives the parser with them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use deno_core::{GarbageCollected, OpState, op2, v8};
use serde::Deserialize;

use super::OpError;
use crate::html_rewriter::{Limits, Machine, Misuse, Place, Rule, Step, Token, check_selector};

/// Bytes of an unfinished tag and of open elements that one document may hold.
const MEMORY: usize = 8 * 1024 * 1024;
/// Documents that one isolate rewrites at a time. Each has a stack of its own.
const MAX_AT_ONCE: usize = 256;

/// The steps as numbers; a handler's number is counted from `CALL`.
const HUNGRY: u32 = 0;
const DONE: u32 = 1;
const CALL: u32 = 2;

#[derive(Clone, Default)]
struct AtOnce(Rc<Cell<usize>>);

/// One document being rewritten.
pub struct HtmlDocument {
    machine: RefCell<Machine>,
    at_once: AtOnce,
}

impl Drop for HtmlDocument {
    fn drop(&mut self) {
        self.at_once.0.set(self.at_once.0.get().saturating_sub(1));
    }
}

// SAFETY: it holds nothing of V8's, so there is nothing to trace.
unsafe impl GarbageCollected for HtmlDocument {
    fn trace(&self, _visitor: &mut v8::cppgc::Visitor) {}

    fn get_name(&self) -> &'static std::ffi::CStr {
        c"HtmlDocument"
    }
}

#[derive(Deserialize)]
pub struct RuleSpec {
    selector: Option<String>,
    element: Option<u32>,
    comments: Option<u32>,
    text: Option<u32>,
    doctype: Option<u32>,
    end: Option<u32>,
}

impl From<RuleSpec> for Rule {
    fn from(spec: RuleSpec) -> Self {
        let RuleSpec { selector, element, comments, text, doctype, end } = spec;
        Self { selector, element, comments, text, doctype, end }
    }
}

fn failed(message: String) -> OpError {
    OpError::Type(format!("HTMLRewriter: {message}"))
}

fn misused(misuse: Misuse) -> OpError {
    failed(misuse.to_string())
}

#[op2(fast)]
pub fn op_verge_html_check(#[string] selector: &str) -> Result<(), OpError> {
    check_selector(selector).map_err(|error| {
        OpError::Type(format!("HTMLRewriter: `{selector}` is no selector: {error}"))
    })
}

#[op2]
#[cppgc]
pub fn op_verge_html_new(
    state: &mut OpState,
    #[serde] rules: Vec<RuleSpec>,
    #[string] charset: &str,
) -> Result<HtmlDocument, OpError> {
    if state.try_borrow::<AtOnce>().is_none() {
        state.put(AtOnce::default());
    }
    let at_once = state.borrow::<AtOnce>().clone();
    if at_once.0.get() >= MAX_AT_ONCE {
        return Err(failed(format!("more than {MAX_AT_ONCE} documents at a time")));
    }
    let rules = rules.into_iter().map(Rule::from).collect();
    let machine = Machine::new(rules, charset, Limits { memory: MEMORY }).map_err(failed)?;
    at_once.0.set(at_once.0.get() + 1);
    Ok(HtmlDocument { machine: RefCell::new(machine), at_once })
}

fn step(result: Result<Step, String>) -> Result<u32, OpError> {
    match result.map_err(failed)? {
        Step::Hungry => Ok(HUNGRY),
        Step::Done => Ok(DONE),
        Step::Call(handler) => Ok(handler.saturating_add(CALL)),
    }
}

#[op2(fast)]
pub fn op_verge_html_write(
    #[cppgc] document: &HtmlDocument,
    #[buffer] bytes: &[u8],
) -> Result<u32, OpError> {
    step(document.machine.borrow_mut().write(bytes.to_vec()))
}

#[op2(fast)]
pub fn op_verge_html_end(#[cppgc] document: &HtmlDocument) -> Result<u32, OpError> {
    step(document.machine.borrow_mut().end())
}

#[op2(fast)]
pub fn op_verge_html_resume(#[cppgc] document: &HtmlDocument) -> Result<u32, OpError> {
    step(document.machine.borrow_mut().resume())
}

#[op2]
#[buffer]
pub fn op_verge_html_output(#[cppgc] document: &HtmlDocument) -> Vec<u8> {
    document.machine.borrow_mut().take_output()
}

fn with<T>(
    document: &HtmlDocument,
    action: impl FnOnce(&Token) -> Result<T, Misuse>,
) -> Result<T, OpError> {
    let machine = document.machine.borrow();
    action(machine.token().ok_or_else(|| misused(Misuse::NotHere))?).map_err(misused)
}

#[op2]
#[string]
pub fn op_verge_html_text(#[cppgc] document: &HtmlDocument) -> Result<String, OpError> {
    with(document, Token::text)
}

#[op2(fast)]
pub fn op_verge_html_set_text(
    #[cppgc] document: &HtmlDocument,
    #[string] text: &str,
) -> Result<(), OpError> {
    with(document, |token| token.set_text(text))
}

#[op2(fast)]
pub fn op_verge_html_is_last(#[cppgc] document: &HtmlDocument) -> Result<bool, OpError> {
    with(document, Token::is_last_in_text_node)
}

#[op2]
#[string]
pub fn op_verge_html_name(#[cppgc] document: &HtmlDocument) -> Result<Option<String>, OpError> {
    with(document, Token::name)
}

#[op2(fast)]
pub fn op_verge_html_set_name(
    #[cppgc] document: &HtmlDocument,
    #[string] name: &str,
) -> Result<(), OpError> {
    with(document, |token| token.set_name(name))
}

#[op2]
#[string]
pub fn op_verge_html_namespace(#[cppgc] document: &HtmlDocument) -> Result<&'static str, OpError> {
    with(document, Token::namespace_uri)
}

#[op2]
#[serde]
pub fn op_verge_html_identifiers(
    #[cppgc] document: &HtmlDocument,
) -> Result<(Option<String>, Option<String>), OpError> {
    with(document, Token::identifiers)
}

#[op2]
#[string]
pub fn op_verge_html_attribute(
    #[cppgc] document: &HtmlDocument,
    #[string] name: &str,
) -> Result<Option<String>, OpError> {
    with(document, |token| token.attribute(name))
}

#[op2]
#[serde]
pub fn op_verge_html_attributes(
    #[cppgc] document: &HtmlDocument,
) -> Result<Vec<(String, String)>, OpError> {
    with(document, Token::attributes)
}

#[op2(fast)]
pub fn op_verge_html_set_attribute(
    #[cppgc] document: &HtmlDocument,
    #[string] name: &str,
    #[string] value: &str,
) -> Result<(), OpError> {
    with(document, |token| token.set_attribute(name, value))
}

#[op2(fast)]
pub fn op_verge_html_remove_attribute(
    #[cppgc] document: &HtmlDocument,
    #[string] name: &str,
) -> Result<(), OpError> {
    with(document, |token| token.remove_attribute(name))
}

#[op2(fast)]
pub fn op_verge_html_insert(
    #[cppgc] document: &HtmlDocument,
    #[smi] place: u32,
    #[string] content: &str,
    html: bool,
) -> Result<(), OpError> {
    const PLACES: [Place; 6] =
        [Place::Before, Place::After, Place::Prepend, Place::Append, Place::Inner, Place::Replace];
    let place = usize::try_from(place).ok().and_then(|place| PLACES.get(place)).copied();
    with(document, |token| token.insert(place.ok_or(Misuse::NotHere)?, content, html))
}

#[op2(fast)]
pub fn op_verge_html_remove(
    #[cppgc] document: &HtmlDocument,
    keep_content: bool,
) -> Result<(), OpError> {
    with(document, if keep_content { Token::remove_and_keep_content } else { Token::remove })
}

#[op2(fast)]
pub fn op_verge_html_is_removed(#[cppgc] document: &HtmlDocument) -> Result<bool, OpError> {
    with(document, Token::is_removed)
}

#[op2(fast)]
pub fn op_verge_html_on_end_tag(
    #[cppgc] document: &HtmlDocument,
    #[smi] handler: u32,
) -> Result<(), OpError> {
    document.machine.borrow_mut().on_end_tag(handler).map_err(misused)
}
