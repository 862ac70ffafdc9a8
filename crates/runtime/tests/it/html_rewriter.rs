//! `HTMLRewriter` as apps use it.

use super::harness::{AppSpec, World, get, get_text, text};
use http_body_util::BodyExt;

/// An app whose `fetch` is `body`, with `page(text, cut)` making a response in chunks.
fn app(body: &str) -> AppSpec {
    AppSpec::new(&format!(
        r#"
        const page = (text, size = 7, init) => new Response(new ReadableStream({{
            async start(controller) {{
                const bytes = new TextEncoder().encode(text);
                for (let at = 0; at < bytes.length; at += size) {{
                    controller.enqueue(bytes.slice(at, at + size));
                    await scheduler.wait(0);
                }}
                controller.close();
            }},
        }}), init);
        export default {{ async fetch(request) {{ {body} }} }};
        "#
    ))
}

async fn answer(body: &str) -> String {
    let world = World::new();
    get_text(&world.load(app(body)), "/").await
}

#[tokio::test]
async fn elements_text_and_comments_are_rewritten() {
    let answer = answer(
        r#"
        const seen = [];
        class Links {
            prefix = "https://cdn.example";
            element(element) {
                seen.push([element.tagName, ...element.attributes].join(" "));
                element.setAttribute("href", this.prefix + element.getAttribute("href"));
                element.removeAttribute("title");
                if (!element.hasAttribute("title")) element.before("<", {}).after("<hr>", { html: true });
            }
        }
        let text = "";
        const rewritten = new HTMLRewriter()
            .on("a[href]", new Links())
            .on("p", {
                element(p) { p.prepend("[").append("]").tagName = "section" },
                text(chunk) { text += chunk.text; if (chunk.lastInTextNode) { chunk.after("!"); seen.push(text); text = "" } },
                comments(comment) { comment.text = comment.text.toUpperCase() },
            })
            .on("script", { element: (script) => { script.remove(); seen.push(script.removed) } })
            .on("u", { element(u) { u.removeAndKeepContent() } })
            .on("i", { element(i) { i.setInnerContent("<b>", { html: false }) } })
            .on("s", { element(s) { s.replace("<q></q>", { html: true }); seen.push(s.namespaceURI) } })
            .onDocument({
                doctype(doctype) { seen.push([doctype.name, doctype.publicId, doctype.systemId].join("|")) },
                end(end) { end.append("<!-- done -->", { html: true }) },
            })
            .transform(page(`<!DOCTYPE html><p>one<a href="/x" title=t>two</a><!--c--></p><script>1 < 2</script><u>u</u><i>x</i><s>y</s>`));
        return new Response(await rewritten.text() + "\n" + JSON.stringify(seen));
        "#,
    )
    .await;
    let (page, seen) = answer.split_once('\n').expect("two lines");
    assert_eq!(
        page,
        r#"<!DOCTYPE html><section>[one!&lt;<a href="https://cdn.example/x">two!</a><hr><!--C-->]</section>u<i>&lt;b&gt;</i><q></q><!-- done -->"#
    );
    assert_eq!(
        seen,
        r#"["html||","one","a href,/x title,t","two",true,"http://www.w3.org/1999/xhtml"]"#
    );
}

#[tokio::test]
async fn handlers_may_be_async_and_documents_may_interleave() {
    let answer = answer(
        r#"
        const one = (name) => new HTMLRewriter().on("li", {
            async element(li) {
                await scheduler.wait(2);
                li.setAttribute("by", name);
                li.onEndTag(async (end) => { await scheduler.wait(1); end.before(name); end.name = "dd" });
            },
        }).transform(page("<li>a</li><li>b</li>", 3)).text();
        return new Response((await Promise.all([one("x"), one("y")])).join("\n"));
        "#,
    )
    .await;
    assert_eq!(
        answer,
        "<li by=\"x\">ax</dd><li by=\"x\">bx</dd>\n<li by=\"y\">ay</dd><li by=\"y\">by</dd>"
    );
}

#[tokio::test]
async fn a_handler_that_throws_breaks_the_body_and_nothing_else() {
    let world = World::new();
    let app = world.load(app(r#"
        const broken = new HTMLRewriter().on("p", { element() { throw new RangeError("no p today") } });
        const path = new URL(request.url).pathname;
        if (path === "/streamed") return broken.transform(page("<b>first</b><p>"));
        if (path === "/caught") {
            try { return new Response(await broken.transform(page("<p>")).text()) }
            catch (error) { return new Response(`${error.name}: ${error.message}`) }
        }
        return new Response("fine");
    "#));
    assert_eq!(get_text(&app, "/caught").await, "RangeError: no p today");
    let response = get(&app, "/streamed").await.expect("a head");
    assert!(response.into_body().collect().await.is_err(), "the body must not end cleanly");
    assert_eq!(get_text(&app, "/").await, "fine");
}

#[tokio::test]
async fn misuse_is_an_error_that_says_so() {
    let answer = answer(
        r#"
        const said = [];
        const attempt = async (action) => {
            try { await action(); said.push("nothing") } catch (error) { said.push(`${error.name}: ${error.message}`) }
        };
        const on = (selector, handlers, html) => new HTMLRewriter().on(selector, handlers).transform(page(html)).text();
        await attempt(() => new HTMLRewriter().on("a::before", {}));
        await attempt(() => new HTMLRewriter().on("a", { element: 1 }));
        await attempt(() => new HTMLRewriter().on("a"));
        await attempt(() => new HTMLRewriter().transform("<p>"));
        await attempt(() => on("p", { element(p) { p.setAttribute("a b", "") } }, "<p>"));
        await attempt(() => on("p", { element(p) { p.tagName = "1" } }, "<p>"));
        await attempt(() => on("br", { element(br) { br.onEndTag(() => {}) } }, "<br>"));
        await attempt(() => on("p", { element(p) { p.append(new Response("x")) } }, "<p></p>"));
        await attempt(async () => {
            let kept;
            await on("p", { element(p) { kept = p } }, "<p></p>");
            kept.remove();
        });
        await attempt(() => on("p", { element(p) { new p.constructor() } }, "<p>"));
        return new Response(said.join("\n"));
        "#,
    )
    .await;
    let said: Vec<&str> = answer.lines().collect();
    assert!(
        said[0].starts_with("TypeError: HTMLRewriter: `a::before` is no selector: "),
        "{answer}"
    );
    assert_eq!(said[1], "TypeError: HTMLRewriter: the handler \"element\" must be a function");
    assert!(said[2].starts_with("TypeError: HTMLRewriter: the handlers"), "{answer}");
    assert_eq!(said[3], "TypeError: HTMLRewriter.transform() takes a Response");
    assert!(said[4].starts_with("TypeError: HTMLRewriter: "), "{answer}");
    assert!(said[5].starts_with("TypeError: HTMLRewriter: "), "{answer}");
    assert_eq!(said[6], "TypeError: HTMLRewriter: this element has no end tag");
    assert!(said[7].contains("not available as content"), "{answer}");
    assert!(said[8].starts_with("TypeError: This content token is no longer valid"), "{answer}");
    assert_eq!(said[9], "TypeError: Illegal constructor");
}

#[tokio::test]
async fn the_response_keeps_its_head_but_its_length() {
    let world = World::new();
    let app = world.load(app(r#"
        const init = { status: 203, headers: { "content-type": "text/html; charset=windows-1251", "content-length": "1", "x-a": "b" } };
        const bytes = new Uint8Array([60, 112, 62, 207, 240, 60, 47, 112, 62]);
        const rewriter = new HTMLRewriter().on("p", { text(t) { if (t.text) t.replace(t.text + "и") } });
        if (request.url.endsWith("/empty")) return rewriter.transform(new Response(null, { status: 204 }));
        return rewriter.transform(new Response(bytes, init));
    "#));
    let response = get(&app, "/").await.expect("an answer");
    assert_eq!(response.status(), 203);
    assert_eq!(response.headers()["x-a"], "b");
    assert!(!response.headers().contains_key("content-length"));
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    assert_eq!(body.as_ref(), [60, 112, 62, 207, 240, 232, 60, 47, 112, 62]);
    assert_eq!(get(&app, "/empty").await.expect("an answer").status(), 204);
}

#[tokio::test]
async fn what_is_not_read_is_not_rewritten() {
    let world = World::new();
    let app = world.load(app(r#"
        let made = 0;
        const endless = new Response(new ReadableStream({
            pull(controller) { made++; controller.enqueue(new TextEncoder().encode("<p>x</p>")) },
        }, { highWaterMark: 0 }));
        const reader = new HTMLRewriter().on("p", { element(p) { p.tagName = "b" } })
            .transform(endless).body.getReader();
        const first = new TextDecoder().decode((await reader.read()).value);
        await scheduler.wait(20);
        const seen = made;
        await reader.cancel("enough");
        // Many that nobody reads: each has a stack, the garbage collector takes them.
        for (let n = 0; n < 200; n++) new HTMLRewriter().on("p", {}).transform(new Response("<p>"));
        return new Response(`${first} ${seen}`);
    "#));
    let answer = text(get(&app, "/").await.expect("an answer")).await;
    assert_eq!(answer, "<b>x</b> 1");
}
