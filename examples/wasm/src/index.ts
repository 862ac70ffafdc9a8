import module from "./primes.wasm";

const { count } = new WebAssembly.Instance(module).exports as { count(limit: number): number };

/** A sieve of trial division is quadratic; the limit keeps a request short. */
const MOST = 100_000;

export default {
  fetch(request: Request): Response {
    const limit = Number(new URL(request.url).pathname.slice(1) || 100);
    if (!Number.isInteger(limit) || limit < 0 || limit > MOST) {
      return Response.json({ error: `ask for /0 to /${MOST}` }, { status: 400 });
    }
    return Response.json({ limit, primes: count(limit) });
  },
};
