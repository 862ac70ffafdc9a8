//! Paths without asking the file system.

use std::path::{Component, Path, PathBuf};

/// `base` joined with `path`, with `.` and `..` resolved by name.
pub fn join(base: &Path, path: &Path) -> PathBuf {
    let mut joined = PathBuf::new();
    for component in base.join(path).components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                joined.pop();
            }
            other => joined.push(other),
        }
    }
    joined
}

/// Relative to `base` with `/` where it lies below it, whole otherwise.
pub fn shown(base: &Path, path: &Path) -> String {
    let relative = path.strip_prefix(base).unwrap_or(path);
    if relative.as_os_str().is_empty() {
        return ".".into();
    }
    relative.to_string_lossy().replace('\\', "/")
}

/// The path from folder `from` to `to`, with `/`, beginning with `./` or `../`.
pub fn relative(from: &str, to: &str) -> String {
    let from: Vec<&str> = from.split('/').filter(|s| !s.is_empty()).collect();
    let to: Vec<&str> = to.split('/').filter(|s| !s.is_empty()).collect();
    let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let mut path = "../".repeat(from.len() - common);
    if path.is_empty() {
        path.push_str("./");
    }
    path.push_str(&to[common..].join("/"));
    path
}

/// How a source map of a module in `folder` names a file that the project calls `shown`: source
/// maps name files relative to where they are.
pub fn source_name(folder: &str, shown: &str) -> String {
    if shown.starts_with('/') {
        return shown.to_owned();
    }
    let name = relative(folder, shown);
    name.strip_prefix("./").map(str::to_owned).unwrap_or(name)
}

/// Whether a path of a deployment stays inside it: relative, `/`, no `..`, no empty part.
pub fn is_contained(path: &str) -> bool {
    !path.is_empty()
        && path.len() <= 1024
        && !path.contains(['\\', '\0', ':'])
        && path.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_and_relatives() {
        assert_eq!(join(Path::new("/a/b"), Path::new("../c/./d")), Path::new("/a/c/d"));
        assert_eq!(relative("src/lib", "src/x.js"), "../x.js");
        assert_eq!(relative("", "x.js"), "./x.js");
        assert_eq!(relative("a", "b/c.js"), "../b/c.js");
        assert_eq!(source_name("src", "src/x.ts"), "x.ts");
        assert_eq!(source_name("", "src/x.ts"), "src/x.ts");
        assert_eq!(source_name("a/b", "../x.ts"), "../../../x.ts");
        assert_eq!(source_name("a", "/x.ts"), "/x.ts");
    }

    #[test]
    fn what_leaves_a_deployment_is_refused() {
        for bad in ["", "/a", "../a", "a/../b", "a//b", "a\\b", "C:/a", "a/", "./a", "a\0b"] {
            assert!(!is_contained(bad), "{bad:?}");
        }
        assert!(is_contained("chunks/a-1.js"));
    }
}
