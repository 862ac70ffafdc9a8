// Imported by the wrappers of `.wasm` and binary modules only; the loader refuses others.
import { internals } from "ext:core/mod.js";
export const { data, wasm } = internals.vergeModules;
