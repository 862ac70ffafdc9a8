// What the test apps are written with: named cases, run by a request, told as JSON.

const cases = [];

/** A case; it fails by throwing, or by taking longer than 50 seconds. */
export function test(name, run) {
  cases.push([name, run]);
}

function show(value) {
  if (value instanceof Error) return `${value.name}: ${value.message}`;
  if (typeof value === "bigint") return `${value}n`;
  if (ArrayBuffer.isView(value)) return `${value.constructor.name}[${hex(value)}]`;
  try {
    return JSON.stringify(value) ?? String(value);
  } catch {
    return String(value);
  }
}

function same(a, b) {
  if (Object.is(a, b)) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  if (a instanceof ArrayBuffer && b instanceof ArrayBuffer) return hex(a) === hex(b);
  if (ArrayBuffer.isView(a) && ArrayBuffer.isView(b)) return hex(a) === hex(b);
  if (a instanceof Date && b instanceof Date) return a.getTime() === b.getTime();
  const keys = Object.keys(a);
  return Array.isArray(a) === Array.isArray(b) && keys.length === Object.keys(b).length &&
    keys.every((key) => Object.hasOwn(b, key) && same(a[key], b[key]));
}

/** Deep equality. */
export function equal(actual, expected, what = "") {
  if (!same(actual, expected)) throw new Error(`${what} is ${show(actual)}, should be ${show(expected)}`);
}

export function ok(value, what = "the value") {
  if (!value) throw new Error(`${what} is ${show(value)}, should be true`);
}

function isExpected(error, expected) {
  if (expected instanceof RegExp) return expected.test(`${error?.name}: ${error?.message}`);
  if (typeof expected === "string") return error?.name === expected;
  return error instanceof expected;
}

/** `expected` is a class, an error's name, or a pattern for "name: message". */
export function throws(run, expected) {
  let result;
  try {
    result = run();
  } catch (error) {
    if (isExpected(error, expected)) return error;
    throw new Error(`it threw ${show(error)}, should have thrown ${expected.name ?? expected}`);
  }
  throw new Error(`it gave ${show(result)}, should have thrown ${expected.name ?? expected}`);
}

export async function rejects(promise, expected) {
  let result;
  try {
    result = await (typeof promise === "function" ? promise() : promise);
  } catch (error) {
    if (isExpected(error, expected)) return error;
    throw new Error(`it rejected with ${show(error)}, should have been ${expected.name ?? expected}`);
  }
  throw new Error(`it gave ${show(result)}, should have rejected with ${expected.name ?? expected}`);
}

export function hex(data) {
  const bytes = data instanceof ArrayBuffer
    ? new Uint8Array(data)
    : new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function bytes(hexadecimal) {
  return new Uint8Array((hexadecimal.match(/../g) ?? []).map((pair) => parseInt(pair, 16)));
}

export const utf8 = (text) => new TextEncoder().encode(text);
export const fromUtf8 = (data) => new TextDecoder().decode(data);
export const textOf = (stream) => new Response(stream).text();

/** Everything a stream yields. */
export async function all(stream) {
  const items = [];
  for await (const item of stream) items.push(item);
  return items;
}

/** The next event of that type. */
export function once(target, type) {
  return new Promise((resolve) => target.addEventListener(type, resolve, { once: true }));
}

async function runCase(run, args) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("it takes longer than 50 seconds")), 50_000);
  });
  try {
    await Promise.race([run(...args), late]);
    return null;
  } catch (error) {
    return error instanceof Error ? `${error.stack ?? error}` : `thrown: ${show(error)}`;
  } finally {
    clearTimeout(timer);
  }
}

/** The app's default export: answers with `[name, error or null]` of each case. */
export const report = {
  async fetch(request, env, ctx) {
    const results = [];
    for (const [name, run] of cases) {
      results.push([name, await runCase(run, [{ request, env, ctx }])]);
    }
    return Response.json(results);
  },
};
