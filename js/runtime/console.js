// `console`: lines with a level and the request they belong to.

import { core, primordials } from "ext:core/mod.js";
import { currentId } from "ext:verge_engine/context.js";

const { op_verge_log } = core.ops;
const { StringPrototypeSlice, StringPrototypeEndsWith } = primordials;
const { Console, inspectArgs, setNoColorFns } = core.loadExtScript(
  "ext:deno_web/01_console.js",
);

// Who prints a record decides about colours.
setNoColorFns(() => true, () => true);

/** `value` as `console.log` would show it. */
export function inspect(value) {
  return inspectArgs([value], { colors: false });
}

/** 0 debug, 1 info, 2 warn, 3 error. */
export function log(level, ...args) {
  op_verge_log(level, currentId(), inspectArgs(args, { colors: false }));
}

export const console = new Console((text, level) => {
  const line = StringPrototypeEndsWith(text, "\n") ? StringPrototypeSlice(text, 0, -1) : text;
  op_verge_log(level, currentId(), line);
});
