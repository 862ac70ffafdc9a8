// Error classes that Rust ops name, and the handling of rejections nobody caught.

import { core, primordials } from "ext:core/mod.js";
import { DOMException, QuotaExceededError } from "ext:verge_engine/globals.js";

const { Error } = primordials;

/** `Deno.errors.*`: I/O failures that apps may want to tell apart. */
export const errors = { __proto__: null };

for (
  const name of [
    "NotFound", "PermissionDenied", "ConnectionRefused", "ConnectionReset", "ConnectionAborted",
    "NotConnected", "AddrInUse", "AddrNotAvailable", "BrokenPipe", "AlreadyExists", "InvalidData",
    "TimedOut", "WriteZero", "WouldBlock", "UnexpectedEof", "Http", "Busy", "NotSupported",
    "FilesystemLoop", "IsADirectory", "NetworkUnreachable", "NotADirectory",
  ]
) {
  const cls = {
    [name]: class extends Error {
      constructor(message, options) {
        super(message, options);
        this.name = name;
      }
    },
  }[name];
  errors[name] = cls;
  core.registerErrorClass(name, cls);
}
errors.BadResource = core.BadResource;
errors.Interrupted = core.Interrupted;
errors.NotCapable = core.NotCapable;

for (
  const name of [
    "OperationError", "NotSupportedError", "NetworkError", "AbortError",
    "InvalidCharacterError", "DataError", "DataCloneError", "InvalidStateError", "SyntaxError",
    "TimeoutError", "EncodingError", "NotFoundError", "InvalidAccessError", "ReadOnlyError",
    "IndexSizeError", "TypeMismatchError",
  ]
) {
  core.registerErrorBuilder(`DOMException${name}`, (message) => new DOMException(message, name));
}
core.registerErrorBuilder(
  "DOMExceptionQuotaExceededError",
  (message) => new QuotaExceededError(message),
);

/** What the platform throws when the app hits a limit; `code` is the limit's stable code. */
export class LimitError extends Error {
  constructor(message, code) {
    super(message);
    this.name = "LimitError";
    this.code = code;
  }
}
core.registerErrorBuilder("VergeLimit", (message) => {
  const split = message.indexOf(": ");
  return new LimitError(message.slice(split + 2), message.slice(0, split));
});
