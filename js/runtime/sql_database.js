// `env.<binding>` of a SQL database: D1's API, and what Verge adds to it (`transaction`,
// `iterate`, `max_staleness`, `strong`).
//
// A read that the replica at this point of presence can serve is run at once, on this thread;
// everything else goes through an async op. Errors have D1's texts.

import { core, primordials } from "ext:core/mod.js";
import { currentId } from "ext:verge_engine/context.js";

const {
  op_verge_sql_batch,
  op_verge_sql_begin,
  op_verge_sql_bookmark,
  op_verge_sql_commit,
  op_verge_sql_cursor,
  op_verge_sql_cursor_next,
  op_verge_sql_dump,
  op_verge_sql_exec,
  op_verge_sql_open,
  op_verge_sql_query,
  op_verge_sql_query_now,
  op_verge_sql_rollback,
  op_verge_sql_session,
  op_verge_sql_transact,
} = core.ops;
const {
  ArrayBufferIsView,
  ArrayIsArray,
  ArrayPrototypeEvery,
  ArrayPrototypeMap,
  ArrayPrototypePush,
  Error,
  ErrorPrototype,
  ObjectDefineProperty,
  ObjectPrototypeIsPrototypeOf,
  RangeError,
  SafeWeakSet,
  String,
  Symbol,
  SymbolAsyncIterator,
  TypeError,
  TypedArrayPrototypeGetBuffer,
  Uint8Array,
} = primordials;
const ArrayBufferPrototype = ArrayBuffer.prototype;

/** Only this module makes the classes' instances. */
const inner = Symbol("inner");

function guard(key, name) {
  if (key !== inner) throw new TypeError("Illegal constructor");
}

/** D1's errors carry their text without the prefix as cause. */
function raise(message) {
  const at = message.indexOf(": ");
  return new Error(message, { cause: new Error(at < 0 ? message : message.slice(at + 2)) });
}

/** Errors of ours that say: not now, but the same call may succeed a little later. */
const unavailable = new SafeWeakSet();

/** Whether a request that fails with `error` is worth trying again. */
export function isUnavailable(error) {
  return typeof error === "object" && error !== null && unavailable.has(error);
}

/** Rust answers a failure with an error. */
function check(reply) {
  if (ObjectPrototypeIsPrototypeOf(ErrorPrototype, reply)) {
    const error = raise(reply.message);
    if (reply.code) error.code = reply.code;
    if (reply.retryable) {
      error.retryable = true;
      unavailable.add(error);
    }
    throw error;
  }
  return reply;
}

function typeError(value) {
  let text;
  try {
    text = String(value);
  } catch {
    text = typeof value;
  }
  return raise(`D1_TYPE_ERROR: Type '${typeof value}' not supported for value '${text}'`);
}

/** A parameter as Rust takes it. */
function parameter(value) {
  switch (typeof value) {
    case "string":
    case "number":
    case "boolean":
      return value;
    case "object":
      if (value === null) return value;
      if (ArrayBufferIsView(value)) return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
      if (ObjectPrototypeIsPrototypeOf(ArrayBufferPrototype, value)) return new Uint8Array(value);
      if (ArrayIsArray(value) && ArrayPrototypeEvery(value, (byte) => byte >= 0 && byte <= 255)) {
        return new Uint8Array(value);
      }
  }
  throw typeError(value);
}

// A reply is `[columns, values, count, meta]`: the values of all rows in one array, row by row.

function rowsAsObjects({ 0: columns, 1: values, 2: count }) {
  const width = columns.length;
  const rows = [];
  for (let row = 0, at = 0; row < count; row++) {
    const object = {};
    for (let i = 0; i < width; i++) object[columns[i]] = values[at++];
    ArrayPrototypePush(rows, object);
  }
  return rows;
}

function rowsAsArrays({ 0: columns, 1: values, 2: count }) {
  const width = columns.length;
  const rows = [];
  for (let row = 0, at = 0; row < count; row++) {
    const list = [];
    for (let i = 0; i < width; i++) ArrayPrototypePush(list, values[at++]);
    ArrayPrototypePush(rows, list);
  }
  return rows;
}

function metaOf({ 3: meta }) {
  const duration = meta[0];
  return {
    served_by: meta[7],
    served_by_region: meta[8],
    served_by_primary: meta[9],
    timings: { sql_duration_ms: duration },
    duration,
    changes: meta[1],
    last_row_id: meta[2],
    changed_db: meta[3],
    size_after: meta[4],
    rows_read: meta[5],
    rows_written: meta[6],
  };
}

const resultOf = (reply) => ({ success: true, meta: metaOf(reply), results: rowsAsObjects(reply) });

function firstOf(reply, column) {
  const { 0: columns, 1: values, 2: count } = reply;
  if (count === 0) return null;
  if (column !== undefined) {
    const at = columns.lastIndexOf(column);
    if (at < 0) throw raise(`D1_COLUMN_NOTFOUND: Column not found (${column})`);
    return values[at];
  }
  const object = {};
  for (let i = 0; i < columns.length; i++) object[columns[i]] = values[i];
  return object;
}

/** All rows. */
const ALL = 0;
/** One row is enough: the others need not be built, nor what it cost. */
const FIRST = 1;

export class D1PreparedStatement {
  #run;
  #sql;
  #params;

  constructor(key, run, sql, params) {
    guard(key);
    this.#run = run;
    this.#sql = sql;
    this.#params = params;
  }

  /** A new statement with these values for its `?`, `?1`, ... */
  bind(...values) {
    for (let i = 0; i < values.length; i++) values[i] = parameter(values[i]);
    return new D1PreparedStatement(inner, this.#run, this.#sql, values);
  }

  /** The first row, or one column of it; null if there is none. */
  async first(column) {
    const reply = this.#run.query(this.#sql, this.#params, FIRST);
    return firstOf(typeof reply?.then === "function" ? await reply : reply, column);
  }

  /** All rows as objects, and what it cost. */
  async all() {
    const reply = this.#run.query(this.#sql, this.#params, ALL);
    return resultOf(typeof reply?.then === "function" ? await reply : reply);
  }

  /** The same as `all`, for statements that change something. */
  run() {
    return this.all();
  }

  /** All rows as arrays; with `columnNames` the first one has the names. */
  async raw(options) {
    const pending = this.#run.query(this.#sql, this.#params, ALL);
    const reply = typeof pending?.then === "function" ? await pending : pending;
    const rows = rowsAsArrays(reply);
    if (options?.columnNames === true) rows.unshift(ArrayPrototypeMap(reply[0], (name) => name));
    return rows;
  }

  /**
   * The rows one after the other, in bounded memory however many there are. All are of one
   * state of the database; the loop must end within the read deadline.
   */
  iterate() {
    return this.#run.iterate(this.#sql, this.#params);
  }

  static parts(key, statement) {
    guard(key);
    if (typeof statement !== "object" || statement === null || !(#sql in statement)) {
      throw new TypeError("batch() takes the statements that prepare() makes");
    }
    return [statement.#sql, statement.#params];
  }
}
const partsOf = D1PreparedStatement.parts;
delete D1PreparedStatement.parts;

function sqlText(sql, where) {
  if (typeof sql !== "string") throw new TypeError(`${where} takes SQL as a string, not ${typeof sql}`);
  return sql;
}

async function* rowsOf(handle, session, sql, params) {
  const cursor = check(await op_verge_sql_cursor(handle, currentId(), session, sql, params));
  try {
    for (;;) {
      const reply = check(op_verge_sql_cursor_next(currentId(), cursor));
      const rows = rowsAsObjects(reply);
      for (let i = 0; i < rows.length; i++) yield rows[i];
      if (reply[3]) return;
    }
  } finally {
    core.tryClose(cursor);
  }
}

/** Runs statements on a database, within a session of `withSession` or the request's own. */
class Runner {
  constructor(handle, session) {
    this.handle = handle;
    this.session = session;
  }

  query(sql, params, mode) {
    const id = currentId();
    const reply = op_verge_sql_query_now(this.handle, id, this.session, sql, params, mode);
    if (reply !== null) return check(reply);
    return this.later(id, sql, params);
  }

  async later(id, sql, params) {
    return check(await op_verge_sql_query(this.handle, id, this.session, sql, params));
  }

  async batch(statements) {
    if (!ArrayIsArray(statements)) throw new TypeError("batch() takes an array of statements");
    const parts = ArrayPrototypeMap(statements, (statement) => partsOf(inner, statement));
    const replies = check(
      await op_verge_sql_batch(
        this.handle,
        currentId(),
        this.session,
        ArrayPrototypeMap(parts, (part) => part[0]),
        ArrayPrototypeMap(parts, (part) => part[1]),
      ),
    );
    return ArrayPrototypeMap(replies, resultOf);
  }

  iterate(sql, params) {
    return rowsOf(this.handle, this.session, sql, params);
  }
}

/** A sequence of reads and writes that never goes back in time, wherever it is served. */
export class D1DatabaseSession {
  #runner;

  constructor(key, runner) {
    guard(key);
    this.#runner = runner;
  }

  prepare(sql) {
    return new D1PreparedStatement(inner, this.#runner, sqlText(sql, "prepare()"), []);
  }

  batch(statements) {
    return this.#runner.batch(statements);
  }

  /** Where the session stands; null before its first query. */
  getBookmark() {
    return op_verge_sql_bookmark(this.#runner.handle, this.#runner.session);
  }
}

/** The statements of one `transaction`. */
class Transaction {
  #rid;
  #open = true;

  constructor(rid) {
    this.#rid = rid;
  }

  end() {
    this.#open = false;
  }

  async query(sql, params) {
    if (!this.#open) throw raise("D1_ERROR: The transaction is over");
    return check(await op_verge_sql_transact(this.#rid, sql, params));
  }

  iterate() {
    throw new TypeError("iterate() is not available in a transaction: use all()");
  }

  /** What the callback of `transaction` is given. */
  face() {
    const prepare = (sql) => new D1PreparedStatement(inner, this, sqlText(sql, "prepare()"), []);
    return {
      prepare,
      batch: async (statements) => {
        const results = [];
        for (const statement of statements) {
          const { 0: sql, 1: params } = partsOf(inner, statement);
          ArrayPrototypePush(results, resultOf(await this.query(sql, params)));
        }
        return results;
      },
    };
  }
}

export class D1Database {
  #handle;
  #runner;

  constructor(key, handle) {
    guard(key);
    this.#handle = handle;
    this.#runner = new Runner(handle, null);
  }

  /** A statement; it is checked when it is run. */
  prepare(sql) {
    return new D1PreparedStatement(inner, this.#runner, sqlText(sql, "prepare()"), []);
  }

  /** Runs statements as one transaction: all of them or none. */
  batch(statements) {
    return this.#runner.batch(statements);
  }

  /** Runs the statements of a text one after the other; those before a failed one stay. */
  async exec(sql) {
    const { 0: count, 1: duration } = check(
      await op_verge_sql_exec(this.#handle, currentId(), sqlText(sql, "exec()")),
    );
    return { count, duration };
  }

  /** The whole database as a SQLite file. */
  async dump() {
    return TypedArrayPrototypeGetBuffer(check(op_verge_sql_dump(this.#handle)));
  }

  /**
   * A session that begins at a bookmark, with the newest state ("first-primary") or with
   * whatever is here ("first-unconstrained"). As an object: `{ bookmark, strong, maxStaleness }`
   * (`strong`: each read at the primary; `maxStaleness` in ms: no older replica answers).
   */
  withSession(constraint = "first-unconstrained") {
    let options = constraint;
    if (typeof constraint === "string") options = { bookmark: constraint };
    if (typeof options !== "object" || options === null) {
      throw raise(`D1_SESSION_ERROR: '${String(constraint)}' is no constraint of a session`);
    }
    const { bookmark = "first-unconstrained", strong = false, maxStaleness = -1 } = options;
    if (typeof maxStaleness !== "number" || maxStaleness !== maxStaleness) {
      throw new RangeError("withSession(): maxStaleness is a number of milliseconds");
    }
    const session = check(op_verge_sql_session(this.#handle, String(bookmark), !!strong, maxStaleness));
    return new D1DatabaseSession(inner, new Runner(this.#handle, session));
  }

  /**
   * Runs `body` in a transaction of its own on the primary: committed when it resolves, rolled
   * back when it throws. It holds the database's only writer, so it ends itself after
   * `options.deadline` milliseconds (5,000 unless given, 30,000 at most).
   */
  async transaction(body, options) {
    if (typeof body !== "function") throw new TypeError("transaction() takes a function");
    const id = currentId();
    const rid = check(
      await op_verge_sql_begin(this.#handle, id, Number(options?.deadline ?? 0)),
    );
    const transaction = new Transaction(rid);
    let value;
    try {
      value = await body(transaction.face());
    } catch (error) {
      transaction.end();
      await op_verge_sql_rollback(rid);
      throw error;
    }
    transaction.end();
    check(await op_verge_sql_commit(this.#handle, id, rid));
    return value;
  }
}

for (const { 0: cls, 1: name } of [[D1Database, "D1Database"], [D1DatabaseSession, "D1DatabaseSession"], [D1PreparedStatement, "D1PreparedStatement"]]) {
  ObjectDefineProperty(cls.prototype, Symbol.toStringTag, { value: name, configurable: true });
}

/** `env.<binding>` of a database. */
export function database(binding) {
  return new D1Database(inner, op_verge_sql_open(binding));
}
