//! What a folder without (or with half a) configuration most likely is.

use std::path::{Path, PathBuf};

use verge_types::AppName;

const EXTENSIONS: [&str; 7] = ["ts", "tsx", "mts", "js", "jsx", "mjs", "cjs"];
/// Longest DNS label.
const LONGEST: usize = 63;
const STEMS: [&str; 6] = ["src/index", "src/main", "src/worker", "index", "worker", "main"];

/// The entry module and why it was taken.
pub fn main(dir: &Path) -> Option<(PathBuf, &'static str)> {
    for stem in STEMS {
        for extension in EXTENSIONS {
            let path = dir.join(format!("{stem}.{extension}"));
            if path.is_file() {
                return Some((path, "its name is usual for an entry"));
            }
        }
    }
    let package = super::find::read_bounded(&dir.join("package.json"), 1024 * 1024).ok()?;
    let package: serde_json::Value = serde_json::from_str(&package).ok()?;
    let path = crate::paths::join(dir, Path::new(package.get("main")?.as_str()?));
    (path.is_file() && path.starts_with(dir)).then_some((path, "`main` of package.json"))
}

/// The folder of a static site.
pub fn site(dir: &Path) -> Option<PathBuf> {
    [dir.to_owned(), dir.join("public"), dir.join("dist")]
        .into_iter()
        .find(|d| d.join("index.html").is_file())
}

/// A name made of any text, such as a folder's name.
pub fn app_name(text: &str, environment: Option<&str>) -> AppName {
    let with_environment = match environment {
        Some(environment) => format!("{text}-{environment}"),
        None => text.to_owned(),
    };
    let mut name = String::new();
    for c in with_environment.to_lowercase().chars() {
        let c = if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' };
        if c != '-' || (!name.is_empty() && !name.ends_with('-')) {
            name.push(c);
        }
    }
    name.truncate(LONGEST);
    match name.trim_end_matches('-').parse() {
        Ok(name) => name,
        Err(_) => fallback_name(),
    }
}

fn fallback_name() -> AppName {
    #[expect(clippy::expect_used, reason = "a constant that a test reads")]
    "app".parse().expect("`app` is a name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_gives_a_name() {
        for (text, env, name) in [
            ("My App_2", None, "my-app-2"),
            ("über", None, "ber"),
            ("...", None, "app"),
            ("x", Some("staging"), "x-staging"),
        ] {
            assert_eq!(app_name(text, env).as_str(), name);
        }
        app_name(&"y".repeat(500), Some("production"));
    }
}
