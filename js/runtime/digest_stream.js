// `crypto.DigestStream`: a WritableStream that hashes what is written to it.

import { core, primordials } from "ext:core/mod.js";

const { op_verge_digest_finish, op_verge_digest_new, op_verge_digest_update } = core.ops;
const {
  ArrayBufferIsView,
  BigInt,
  PromisePrototypeThen,
  PromiseWithResolvers,
  String,
  TypeError,
  TypedArrayPrototypeGetBuffer,
  Uint8Array,
} = primordials;
const { WritableStream } = core.loadExtScript("ext:deno_web/06_streams.js");

function bytesOf(chunk) {
  if (typeof chunk === "string") return core.encode(chunk);
  if (ArrayBufferIsView(chunk)) {
    return new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength);
  }
  if (chunk instanceof ArrayBuffer) return new Uint8Array(chunk);
  throw new TypeError("DigestStream is written strings, ArrayBuffers and their views");
}

export class DigestStream extends WritableStream {
  #digest;
  #written = 0;

  /** `algorithm` is SHA-1, SHA-256, SHA-384, SHA-512 or MD5, or an object with that `name`. */
  constructor(algorithm) {
    const hash = op_verge_digest_new(String(algorithm?.name ?? algorithm));
    const { promise, resolve, reject } = PromiseWithResolvers();
    super({
      write: (chunk) => {
        const bytes = bytesOf(chunk);
        this.#written += bytes.byteLength;
        op_verge_digest_update(hash, bytes);
      },
      close: () => resolve(TypedArrayPrototypeGetBuffer(op_verge_digest_finish(hash))),
      abort: (reason) => reject(reason),
    });
    this.#digest = promise;
    // Who only writes need not look at the digest.
    PromisePrototypeThen(promise, undefined, () => {});
  }

  /** A promise of the digest as an ArrayBuffer, once the stream is closed. */
  get digest() {
    return this.#digest;
  }

  get bytesWritten() {
    return BigInt(this.#written);
  }
}
