// A database behind D1's API, the same source for Verge and miniflare.

export default {
  async fetch(request, env) {
    const url = new URL(request.url);
    const n = Number(url.searchParams.get("n") ?? 1);
    switch (url.pathname) {
      case "/setup": {
        await env.DB.prepare("CREATE TABLE person (id INTEGER PRIMARY KEY, name TEXT NOT NULL)").run();
        await env.DB.prepare("CREATE TABLE entry (id INTEGER PRIMARY KEY, text TEXT NOT NULL)").run();
        const insert = env.DB.prepare("INSERT INTO person VALUES (?1, ?2)");
        const people = Array.from({ length: 1000 }, (_, i) => insert.bind(i + 1, `person ${i + 1}`));
        await env.DB.batch(people);
        return new Response("made");
      }
      case "/read": {
        const one = env.DB.prepare("SELECT id, name FROM person WHERE id = ?1");
        let row;
        for (let i = 0; i < n; i++) row = await one.bind((i * 7919) % 1000 + 1).first();
        return Response.json(row ?? null);
      }
      case "/write": {
        const insert = env.DB.prepare("INSERT INTO entry (text) VALUES (?1)");
        for (let i = 0; i < n; i++) await insert.bind("an entry of a guest").run();
        return new Response("written");
      }
      case "/count":
        return Response.json(await env.DB.prepare("SELECT count(*) AS n FROM entry").first());
      default:
        return new Response("ready");
    }
  },
};
