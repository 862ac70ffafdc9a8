// What Workers add to Web Crypto.

import { core, primordials } from "ext:core/mod.js";
import { Crypto, SubtleCrypto } from "ext:verge_engine/globals.js";

const {
  ArrayBufferIsView,
  ArrayBufferPrototypeGetByteLength,
  ObjectDefineProperty,
  TypeError,
  TypedArrayPrototypeGetLength,
  Uint8Array,
} = primordials;

function bytesOf(data) {
  if (ArrayBufferIsView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  try {
    ArrayBufferPrototypeGetByteLength(data);
  } catch {
    throw new TypeError("timingSafeEqual() compares ArrayBuffers and their views");
  }
  return new Uint8Array(data);
}

ObjectDefineProperty(SubtleCrypto.prototype, "timingSafeEqual", {
  configurable: true,
  enumerable: true,
  writable: true,
  /** Whether two buffers of one length are equal, in a time that does not tell where not. */
  value: function timingSafeEqual(a, b) {
    const x = bytesOf(a), y = bytesOf(b);
    const length = TypedArrayPrototypeGetLength(x);
    if (length !== TypedArrayPrototypeGetLength(y)) {
      throw new TypeError("timingSafeEqual() takes buffers of one length");
    }
    let different = 0;
    for (let i = 0; i < length; i++) different |= x[i] ^ y[i];
    return different === 0;
  },
});

const loadDigestStream = core.createLazyLoader("ext:verge_engine/digest_stream.js");
ObjectDefineProperty(Crypto.prototype, "DigestStream", {
  configurable: true,
  enumerable: true,
  get() {
    return loadDigestStream().DigestStream;
  },
});
