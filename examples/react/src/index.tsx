import { renderToReadableStream } from "react-dom/server";
import { loadPlaces } from "./data";
import { Page } from "./page";

/** How long the pretended database takes, in milliseconds; `?slow=0` to `?slow=5000`. */
function delay(url: URL): number {
  const asked = Number(url.searchParams.get("slow") ?? 500);
  return Number.isFinite(asked) ? Math.min(Math.max(asked, 0), 5000) : 500;
}

export default {
  async fetch(request: Request): Promise<Response> {
    const url = new URL(request.url);
    if (url.pathname !== "/") return new Response("Not found\n", { status: 404 });
    const places = loadPlaces(delay(url));
    const stream = await renderToReadableStream(<Page places={places} />, {
      signal: request.signal,
      onError: (error) => console.error(error),
    });
    return new Response(stream, { headers: { "content-type": "text/html; charset=utf-8" } });
  },
};
