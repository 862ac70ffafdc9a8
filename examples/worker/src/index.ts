interface Env {
  GREETING: string;
}

export default {
  async fetch(request: Request, env: Env): Promise<Response> {
    const url = new URL(request.url);
    switch (url.pathname) {
      case "/":
        return new Response(`${env.GREETING} from Verge\n`);
      case "/json":
        return Response.json({ method: request.method, query: Object.fromEntries(url.searchParams) });
      case "/echo":
        // Streams: the first byte goes back before the last one came.
        return new Response(request.body, { headers: { "content-type": "application/octet-stream" } });
      default:
        return new Response(`Nothing at ${url.pathname}\n`, { status: 404 });
    }
  },

  async scheduled(event: { cron: string; scheduledTime: number }): Promise<void> {
    console.log(`${event.cron} at ${new Date(event.scheduledTime).toISOString()}`);
  },
};
