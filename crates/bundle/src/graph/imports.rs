//! The imports of a JavaScript module: what they name and where they stand.

use std::ops::Range;

use deno_ast::swc::ast;
use deno_ast::swc::ecma_visit::{Visit, VisitWith};
use deno_ast::{ParsedSource, SourceRangedForSpanned};

/// One import with a literal specifier.
#[derive(Clone, Debug)]
pub struct Import {
    pub specifier: String,
    /// Of the literal, quotes included, in the transpiled text.
    pub span: Range<usize>,
    /// Of ` with { … }` and its like, to be removed: the module's kind is decided here.
    pub attributes: Option<Range<usize>>,
    /// `type` of the attributes.
    pub kind: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub struct Imports {
    pub imports: Vec<Import>,
    /// `require(…)`, `module.exports` or `exports.x` without any `import` or `export`.
    pub is_commonjs: bool,
    /// JSX that is still there.
    pub has_jsx: bool,
}

pub fn find(parsed: &ParsedSource) -> Imports {
    let start = parsed.text_info_lazy().range().start;
    let text: &str = parsed.text();
    let mut finder =
        Finder { start, text, found: Imports::default(), is_module: false, commonjs: false };
    match parsed.program_ref() {
        deno_ast::ProgramRef::Module(module) => module.visit_with(&mut finder),
        deno_ast::ProgramRef::Script(script) => script.visit_with(&mut finder),
    }
    finder.found.is_commonjs = finder.commonjs && !finder.is_module;
    finder.found
}

struct Finder<'a> {
    start: deno_ast::StartSourcePos,
    text: &'a str,
    found: Imports,
    is_module: bool,
    commonjs: bool,
}

impl Finder<'_> {
    fn range(&self, node: &impl SourceRangedForSpanned) -> Range<usize> {
        node.range().as_byte_range(self.start)
    }

    fn push(&mut self, src: &ast::Str, with: Option<&ast::ObjectLit>) {
        let span = self.range(src);
        let attributes = with.map(|object| {
            let end = self.range(object).end;
            // Reaches from the literal to the end of the object, the word `with` included.
            span.end..end
        });
        let kind = with.and_then(|object| {
            object.props.iter().find_map(|prop| {
                let ast::PropOrSpread::Prop(prop) = prop else { return None };
                let ast::Prop::KeyValue(pair) = &**prop else { return None };
                let key = match &pair.key {
                    ast::PropName::Ident(ident) => ident.sym.to_string(),
                    ast::PropName::Str(s) => s.value.to_string_lossy().into_owned(),
                    _ => return None,
                };
                let ast::Expr::Lit(ast::Lit::Str(value)) = &*pair.value else { return None };
                (key == "type").then(|| value.value.to_string_lossy().into_owned())
            })
        });
        let specifier = src.value.to_string_lossy().into_owned();
        self.found.imports.push(Import { specifier, span, attributes, kind });
    }
}

impl Visit for Finder<'_> {
    fn visit_import_decl(&mut self, node: &ast::ImportDecl) {
        self.is_module = true;
        if !node.type_only {
            self.push(&node.src, node.with.as_deref());
        }
    }

    fn visit_export_all(&mut self, node: &ast::ExportAll) {
        self.is_module = true;
        if !node.type_only {
            self.push(&node.src, node.with.as_deref());
        }
    }

    fn visit_named_export(&mut self, node: &ast::NamedExport) {
        self.is_module = true;
        if let Some(src) = &node.src
            && !node.type_only
        {
            self.push(src, node.with.as_deref());
        }
    }

    fn visit_export_decl(&mut self, node: &ast::ExportDecl) {
        self.is_module = true;
        node.visit_children_with(self);
    }

    fn visit_export_default_decl(&mut self, node: &ast::ExportDefaultDecl) {
        self.is_module = true;
        node.visit_children_with(self);
    }

    fn visit_export_default_expr(&mut self, node: &ast::ExportDefaultExpr) {
        self.is_module = true;
        node.visit_children_with(self);
    }

    fn visit_call_expr(&mut self, node: &ast::CallExpr) {
        let first = node.args.first().map(|a| &*a.expr);
        match &node.callee {
            ast::Callee::Import(_) => {
                if let Some(ast::Expr::Lit(ast::Lit::Str(src))) = first {
                    let before = self.found.imports.len();
                    self.push(src, None);
                    if let Some(options) = node.args.get(1) {
                        let end = self.range(&*options.expr).end;
                        let start = self.found.imports[before].span.end;
                        let written = &self.text[start..end];
                        let kind = ["json", "text", "bytes"].into_iter().find(|kind| {
                            written.contains(&format!("\"{kind}\""))
                                || written.contains(&format!("'{kind}'"))
                        });
                        let import = &mut self.found.imports[before];
                        import.attributes = Some(start..end);
                        import.kind = kind.map(str::to_owned);
                    }
                }
            }
            ast::Callee::Expr(callee) => {
                if let ast::Expr::Ident(ident) = &**callee
                    && ident.sym == "require"
                    && matches!(first, Some(ast::Expr::Lit(ast::Lit::Str(_))))
                {
                    self.commonjs = true;
                }
            }
            ast::Callee::Super(_) => {}
        }
        node.visit_children_with(self);
    }

    fn visit_member_expr(&mut self, node: &ast::MemberExpr) {
        if let ast::Expr::Ident(object) = &*node.obj
            && (object.sym == "exports"
                || (object.sym == "module"
                    && matches!(&node.prop, ast::MemberProp::Ident(p) if p.sym == "exports")))
        {
            self.commonjs = true;
        }
        node.visit_children_with(self);
    }

    fn visit_jsx_element(&mut self, node: &ast::JSXElement) {
        self.found.has_jsx = true;
        node.visit_children_with(self);
    }

    fn visit_jsx_fragment(&mut self, node: &ast::JSXFragment) {
        self.found.has_jsx = true;
        node.visit_children_with(self);
    }
}
