//! Stacks as the app's author wants them: without the engine's own frames, and with files
//! named as they are in the project.

use std::borrow::Cow;

/// Where a deployment's modules live, as `import.meta.url` shows them.
pub const ROOT: &str = "file:///app/";

/// `text` without frames of the engine, its files relative to the project.
pub fn of_the_app(text: &str) -> Cow<'_, str> {
    if !text.contains("\n    at ") {
        return Cow::Borrowed(text);
    }
    let mut kept = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let frame = line.trim_start().strip_prefix("at ");
        match frame {
            Some(frame) if is_the_engines(frame) => {}
            Some(_) => kept.push_str(&line.replacen(ROOT, "", 1)),
            None => kept.push_str(line),
        }
    }
    // The last line may have been a frame that went.
    if !text.ends_with('\n') && kept.ends_with('\n') {
        kept.pop();
    }
    Cow::Owned(kept)
}

fn is_the_engines(frame: &str) -> bool {
    let place = frame.rsplit_once('(').map_or(frame, |(_, place)| place);
    let place = place.trim_start_matches("async ");
    ["ext:", "node:verge_"].iter().any(|scheme| place.starts_with(scheme))
}

#[cfg(test)]
mod tests {
    use super::of_the_app;

    #[test]
    fn the_engines_frames_are_left_out() {
        let text = "TypeError: no user 7\n    at find (file:///app/src/index.ts:3:21)\n    at async file:///app/index.ts:1:1\n    at onFetch (ext:verge_engine/app.js:90:19)\nCaused by: Error: x\n    at ext:core/01_core.js:1:2";
        assert_eq!(
            of_the_app(text),
            "TypeError: no user 7\n    at find (src/index.ts:3:21)\n    at async index.ts:1:1\nCaused by: Error: x"
        );
    }

    #[test]
    fn what_is_no_stack_stays() {
        for text in ["", "look at (ext:this)", "file:///app/x", "a\nat (ext:x)\n"] {
            assert_eq!(of_the_app(text), text);
        }
        let own = "Error\n    at f (node:events:1:1)\n    at new Foo (a.ts:1:1)\n";
        assert_eq!(of_the_app(own), own);
    }
}
