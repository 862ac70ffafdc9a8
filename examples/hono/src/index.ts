import { Hono } from "hono";
import { HTTPException } from "hono/http-exception";

interface Note {
  id: number;
  text: string;
}

// Lives as long as the isolate: good enough to play with, no place for data.
const notes = new Map<number, Note>([[1, { id: 1, text: "Write an API" }]]);
let last = 1;

const app = new Hono();

app.get("/", (c) => c.text("Hello from Hono on Verge\n"));

app.get("/api/notes", (c) => c.json([...notes.values()]));

app.get("/api/notes/:id{[0-9]+}", (c) => {
  const note = notes.get(Number(c.req.param("id")));
  if (!note) throw new HTTPException(404, { message: "no such note" });
  return c.json(note);
});

app.post("/api/notes", async (c) => {
  const { text } = await c.req.json<{ text?: unknown }>();
  if (typeof text !== "string") throw new HTTPException(400, { message: "text is missing" });
  const note = { id: ++last, text };
  notes.set(note.id, note);
  return c.json(note, 201);
});

app.delete("/api/notes/:id{[0-9]+}", (c) => {
  return notes.delete(Number(c.req.param("id"))) ? c.body(null, 204) : c.notFound();
});

export default app;
