// A guestbook with a page per point of presence: whoever signs reads their own entry at once,
// wherever the next request is answered.

interface Env {
  DB: D1Database;
}

const SCHEMA = "CREATE TABLE IF NOT EXISTS entries (id INTEGER PRIMARY KEY, name TEXT NOT NULL, signed_at TEXT NOT NULL)";
const MAX_NAME = 80;

const escaped = (text: string) => text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

async function entries(db: D1Database) {
  try {
    const { results, meta } = await db.prepare("SELECT name, signed_at FROM entries ORDER BY id DESC LIMIT 20").all<{ name: string; signed_at: string }>();
    return { results, meta };
  } catch (error) {
    // Before the first entry there is no table.
    if (error instanceof Error && error.message.includes("no such table")) return { results: [], meta: null };
    throw error;
  }
}

async function sign(request: Request, db: D1Database): Promise<Response> {
  const form = await request.formData();
  const name = String(form.get("name") ?? "").trim();
  if (name === "" || name.length > MAX_NAME) {
    return new Response(`A name has 1 to ${MAX_NAME} characters.\n`, { status: 400 });
  }
  await db.batch([
    db.prepare(SCHEMA),
    db.prepare("INSERT INTO entries (name, signed_at) VALUES (?, ?)").bind(name, new Date().toISOString()),
  ]);
  return new Response(null, { status: 303, headers: { location: "/" } });
}

export default {
  async fetch(request, env): Promise<Response> {
    const { pathname } = new URL(request.url);
    if (pathname === "/sign" && request.method === "POST") return sign(request, env.DB);
    const { results, meta } = await entries(env.DB);
    if (pathname === "/entries") return Response.json(results.map((entry) => entry.name));
    if (pathname !== "/") return new Response("Not found\n", { status: 404 });
    const list = results.map((entry) => `<li><b>${escaped(entry.name)}</b> <time>${entry.signed_at}</time></li>`).join("\n");
    return new Response(
      `<!doctype html><meta charset="utf-8"><title>Guestbook</title>
<style>body{font:16px/1.5 system-ui;max-width:36rem;margin:3rem auto;padding:0 1rem}time{color:#888;font-size:.8em}</style>
<h1>Guestbook</h1>
<p>Answered by <b>${escaped(meta?.served_by_region ?? "nobody yet")}</b>${meta?.served_by_primary ? ", the primary" : ""}.</p>
<form method="post" action="/sign"><input name="name" maxlength="${MAX_NAME}" placeholder="Your name" required> <button>Sign</button></form>
<ul>${list}</ul>
`,
      { headers: { "content-type": "text/html; charset=utf-8" } },
    );
  },
} satisfies ExportedHandler<Env>;
