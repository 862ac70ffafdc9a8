// A guestbook with a page per point of presence: whoever signs reads their own entry at once,
// wherever the next request is answered.

import { page } from "./page";

interface Env {
  DB: D1Database;
}

export interface Guest {
  name: string;
  place: string;
  signed_at: string;
}

const SCHEMA = "CREATE TABLE IF NOT EXISTS guests (id INTEGER PRIMARY KEY, name TEXT NOT NULL, place TEXT NOT NULL, signed_at TEXT NOT NULL)";
const MAX_NAME = 80;

const place = (request: Request) => String(request.cf?.colo ?? "here").toLowerCase();

async function guests(db: D1Database) {
  try {
    const { results, meta } = await db.prepare("SELECT name, place, signed_at FROM guests ORDER BY id DESC LIMIT 20").all<Guest>();
    return { results, primary: meta.served_by_primary === true };
  } catch (error) {
    // Before the first entry there is no table.
    if (error instanceof Error && error.message.includes("no such table")) return { results: [], primary: false };
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
    db.prepare("INSERT INTO guests (name, place, signed_at) VALUES (?, ?, ?)").bind(name, place(request), new Date().toISOString()),
  ]);
  return new Response(null, { status: 303, headers: { location: "/" } });
}

export default {
  async fetch(request, env): Promise<Response> {
    const { pathname } = new URL(request.url);
    if (pathname === "/sign" && request.method === "POST") return sign(request, env.DB);
    if (pathname !== "/" && pathname !== "/entries") return new Response("Not found\n", { status: 404 });
    const { results, primary } = await guests(env.DB);
    if (pathname === "/entries") return Response.json(results.map((guest) => guest.name));
    return new Response(page(place(request), primary, results, MAX_NAME), { headers: { "content-type": "text/html; charset=utf-8" } });
  },
} satisfies ExportedHandler<Env>;
