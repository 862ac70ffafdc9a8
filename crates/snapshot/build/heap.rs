//! V8's heaps: what is in them, and what of it isolates share.
//!
//! An isolate starts by making every object of its snapshot, one by one, and that is most of a
//! cold start. So the names that an app's isolate needs are put where V8 keeps what all
//! isolates of a process share, and what served only the making is thrown away.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use deno_core::{JsRuntime, JsRuntimeForSnapshot, RuntimeOptions, v8};
use serde_json::Value;
use verge_engine::Surface;

use crate::{SNAPSHOT, SURFACES};

/// V8's profiler's list of an isolate's objects, and the heap that holds the names in it.
const OBJECTS: &str = "objects.json";
const SHARED: &str = "shared.bin";
/// Longer texts are messages and sources, which are not looked up by what they say.
const LONGEST_NAME: usize = 128;

/// Collections after which V8 forgets the code of a function that has not run since; more than
/// it does itself when it writes a heap.
const FORGOTTEN_AFTER: usize = 10;

/// To be called before a surface's heap is made.
pub fn set_flags() {
    v8::V8::set_flags_from_string(&format!(
        // By itself V8 adds to the shared part of each heap, and then there is no other that its
        // isolates could live with. It forgets code by the clock, and none that it has optimised.
        "--no-extensible-ro-snapshot --no-flush-code-based-on-time \
         --bytecode-old-age={FORGOTTEN_AFTER} --no-opt --no-maglev --no-sparkplug"
    ));
}

/// Lists what is in a heap that was made without sharing, as [`write_shared`] needs it.
pub fn list_objects(runtime: &mut JsRuntime, folder: &Path) {
    warm_up(runtime);
    let mut objects = Vec::new();
    runtime.v8_isolate().take_heap_snapshot(|chunk| {
        objects.extend_from_slice(chunk);
        true
    });
    std::fs::write(folder.join(OBJECTS), objects).expect("OUT_DIR is writable");
}

/// Writes a heap with nothing in it but V8's own objects and, in the part that is shared, the
/// names of the web's surface. Node's has more, but every isolate would have to enter them
/// into its table of names.
pub fn write_shared(out: &Path) {
    let objects = std::fs::read(out.join("web").join(OBJECTS)).expect("it was written");
    // As for the heaps that are made on top of it, so that each build makes the same.
    v8::V8::set_flags_from_string("--predictable --random-seed=42");
    JsRuntime::init_platform(None);
    let mut isolate = v8::Isolate::snapshot_creator(None, None);
    {
        v8::scope!(let scope, &mut isolate);
        let context = v8::Context::new(scope, Default::default());
        let scope = &mut v8::ContextScope::new(scope, context);
        for name in names(&objects) {
            // While a heap is made for a snapshot, V8 puts new names into its shared part.
            v8::String::new_from_utf8(scope, name.as_bytes(), v8::NewStringType::Internalized)
                .expect("a name is short enough for a string");
        }
        scope.set_default_context(context);
    }
    let heap = isolate.create_blob(v8::FunctionCodeHandling::Keep).expect("V8 writes a heap");
    std::fs::write(out.join(SHARED), &*heap).expect("OUT_DIR is writable");
}

/// What V8's table of names holds, by the profiler's list, whose own first part says how it is
/// to be read: rows of numbers, and after each its edges in a list of their own.
fn names(objects: &[u8]) -> BTreeSet<String> {
    const TABLE: &str = "(Internalized strings)";
    let objects: Value = serde_json::from_slice(objects).expect("the list is JSON");
    let meta = &objects["snapshot"]["meta"];
    let (nodes, row) = numbers(&objects["nodes"], &meta["node_fields"]);
    let (edges, edge_row) = numbers(&objects["edges"], &meta["edge_fields"]);
    let [name, size, count] =
        ["name", "self_size", "edge_count"].map(|field| column(&meta["node_fields"], field));
    let to = column(&meta["edge_fields"], "to_node");
    let text = |node: &[usize]| objects["strings"][node[name]].as_str().expect("it is text");

    let mut first_edge = 0;
    let mut table = None;
    for node in nodes.chunks_exact(row) {
        if text(node) == TABLE {
            table = Some(first_edge..first_edge + node[count] * edge_row);
        }
        first_edge += node[count] * edge_row;
    }
    edges[table.expect("there is a table of names")]
        .chunks_exact(edge_row)
        .map(|edge| &nodes[edge[to]..edge[to] + row])
        // Those of the part that is shared already have no size.
        .filter(|node| node[size] > 0)
        .map(text)
        .filter(|name| name.len() <= LONGEST_NAME)
        .map(str::to_owned)
        .collect()
}

/// A list of the profiler's, and how many of its numbers make a row.
fn numbers(list: &Value, fields: &Value) -> (Vec<usize>, usize) {
    let numbers = list.as_array().expect("it is a list").iter();
    let numbers = numbers.map(|number| number.as_u64().expect("it is a number") as usize);
    (numbers.collect(), fields.as_array().expect("it is a list").len())
}

fn column(fields: &Value, field: &str) -> usize {
    let fields = fields.as_array().expect("it is a list");
    fields.iter().position(|known| known == field).expect("the list has this column")
}

/// Writes a surface's heap, which shares the names.
pub fn write(out: &Path, name: &str, surface: Surface) {
    let folder = out.join(name);
    let shared = std::fs::read(out.join(SHARED)).expect("it was written");
    set_flags();
    // Making an isolate schedules tasks; none of them ever runs here.
    let tokio = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let tokio = tokio.expect("a runtime of one thread can be made");
    let _entered = tokio.enter();
    let mut runtime = JsRuntimeForSnapshot::new(RuntimeOptions {
        extensions: verge_engine::for_snapshot(surface),
        extension_transpiler: Some(Rc::new(verge_engine::transpile)),
        create_params: Some(v8::CreateParams::default().snapshot_blob(shared.into())),
        ..Default::default()
    });
    flatten(&mut runtime, &crate::sources::evaluated(&folder));
    forget_code(&mut runtime);
    warm_up(&mut runtime);
    std::fs::write(folder.join(SNAPSHOT), runtime.snapshot()).expect("OUT_DIR is writable");
}

/// What a script exports is an object that was made property by property, and V8 keeps a
/// description of it for each of these steps. As dictionaries the objects have one for all.
fn flatten(runtime: &mut JsRuntime, scripts: &[String]) {
    let scripts = serde_json::to_string(scripts).expect("names are JSON");
    let flatten = "(scripts) => {
        const flatten = (object) => {
            if (!Object.isExtensible(object)) return;
            // V8 takes back the last property; without any other it makes a dictionary.
            const [last, other] = [Symbol(), Symbol()];
            object[other] = object[last] = undefined;
            delete object[other];
            delete object[last];
        };
        const exports = scripts.map((script) => Deno.core.loadExtScript(script));
        for (const object of [...exports, __bootstrap.internals]) {
            if (typeof object !== 'object') continue;
            // Not what a getter gives: some make a thing when they are first asked for it.
            for (const { value } of Object.values(Object.getOwnPropertyDescriptors(object))) {
                if (value && Object.getPrototypeOf(value) === Object.prototype) flatten(value);
            }
            flatten(object);
        }
    }";
    run(runtime, format!("({flatten})({scripts})"));
}

/// Throws away the code of all functions, for most of them ran once and never will again.
fn forget_code(runtime: &mut JsRuntime) {
    // Nothing grows older in a collection that was asked for by name.
    for _ in 0..=FORGOTTEN_AFTER {
        runtime.v8_isolate().memory_pressure_notification(v8::MemoryPressureLevel::Critical);
    }
}

/// Has the way of a first request walked, so that its functions are there compiled.
fn warm_up(runtime: &mut JsRuntime) {
    run(runtime, "__verge.warmUp(); delete __verge.warmUp".to_owned());
    runtime.v8_isolate().perform_microtask_checkpoint();
}

fn run(runtime: &mut JsRuntime, script: String) {
    runtime.execute_script("verge:build", script).expect("the script is right");
}

/// Fails the build if isolates from these heaps could not live in one process, or if what they
/// share is not what was made for them: without that they would work too, and start slower.
pub fn check(out: &Path) {
    let read = |path: PathBuf| std::fs::read(path).expect("it was written");
    let shared = read(out.join(SHARED));
    let [web, node] = SURFACES.map(|(name, _)| read(out.join(name).join(SNAPSHOT)));
    assert!(shared_part(&web) == shared_part(&node), "the heaps differ in what they share");
    assert_eq!(shared_part(&web).len(), shared_part(&shared).len(), "the names are not shared");
}

/// What all isolates of a process take from the first one's snapshot: what stands after the
/// header and before the first of the offsets in it (`Snapshot blob layout` in V8's
/// `snapshot.cc`). At its end is a number that only debuggers use.
fn shared_part(snapshot: &[u8]) -> &[u8] {
    const OFFSET: std::ops::Range<usize> = 0x50..0x54;
    const HEADER: usize = 0x60;
    const NUMBER: usize = 16;
    let offset = snapshot[OFFSET].try_into().expect("an offset has four bytes");
    &snapshot[HEADER..u32::from_le_bytes(offset) as usize - NUMBER]
}
