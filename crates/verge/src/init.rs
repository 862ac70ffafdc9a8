//! `verge init`: a new project from a template.
//!
//! The templates are the examples of this repository, compiled in. Either all files of a
//! template are written or none, and no file that was there before is touched.

use std::fs;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use serde_json::json;

use crate::cli::{Init, Template};
use crate::failure::Failure;
use crate::terminal::{Style, Terminal};

/// Path below the project, content.
type File = (&'static str, &'static [u8]);

macro_rules! template {
    ($folder:literal: $($file:literal),+ $(,)?) => {
        &[$(($file, include_bytes!(concat!("../../../examples/", $folder, "/", $file)))),+]
    };
}

const WORKER: &[File] = template!("worker": "src/index.ts", "wrangler.jsonc", "README.md");
const HONO: &[File] = template!(
    "hono": "src/index.ts", "wrangler.jsonc", "package.json", "package-lock.json", "README.md"
);
const REACT: &[File] = template!(
    "react": "src/index.tsx", "src/page.tsx", "src/data.ts", "public/style.css", "wrangler.jsonc",
    "package.json", "package-lock.json", "tsconfig.json", "README.md"
);
const STATIC: &[File] = template!(
    "static": "public/index.html", "public/about.html", "public/404.html", "public/style.css",
    "public/_headers", "public/_redirects", "wrangler.jsonc", "README.md"
);

/// Written beside every template.
const GITIGNORE: &[u8] = b"node_modules/\n.verge/\n.dev.vars*\n.env*\n";

pub fn run(args: &Init, terminal: &Terminal) -> Result<(), Failure> {
    let (template, name) = match args.template {
        Template::Worker => (WORKER, "worker"),
        Template::Hono => (HONO, "hono"),
        Template::React => (REACT, "react"),
        Template::Static => (STATIC, "static"),
    };
    let app = app_name(&args.dir)?;
    let mut files: Vec<(&str, Vec<u8>)> =
        template.iter().map(|(path, content)| (*path, named(path, content, name, &app))).collect();
    files.push((".gitignore", GITIGNORE.to_vec()));
    write_all(&args.dir, &files)?;
    let npm = template.iter().any(|(path, _)| *path == "package.json");
    if terminal.is_json() {
        let paths: Vec<_> = files.iter().map(|(path, _)| *path).collect();
        terminal.result(&json!({ "dir": args.dir, "name": app, "template": name, "files": paths }));
        return Ok(());
    }
    terminal.note(&format!(
        "{} {app} from the template {name}; next:",
        terminal.paint(Style::Good, "made")
    ));
    let here = args.dir.as_os_str() == ".";
    let mut next = Vec::new();
    if !here {
        next.push(format!("cd {}", args.dir.display()));
    }
    if npm {
        next.push("npm install".to_owned());
    }
    next.push("verge dev".to_owned());
    for line in next {
        terminal.note(&format!("  {}", terminal.paint(Style::Accent, &line)));
    }
    Ok(())
}

/// The folder's name as a DNS label.
fn app_name(dir: &Path) -> Result<String, Failure> {
    let absolute = std::path::absolute(dir).map_err(|e| Failure::io("open", dir, &e))?;
    let folder = absolute
        .components()
        .rev()
        .find_map(|part| match part {
            Component::Normal(name) => Some(name.to_string_lossy().to_lowercase()),
            _ => None,
        })
        .unwrap_or_default();
    let name: String =
        folder.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let name = name.trim_matches('-');
    let name = name.get(..name.len().min(63)).unwrap_or_default().trim_end_matches('-');
    Ok(if name.is_empty() { "app".to_owned() } else { name.to_owned() })
}

/// The template's own name is replaced where a file names the app.
fn named(path: &str, content: &[u8], template: &str, app: &str) -> Vec<u8> {
    let names_the_app = ["wrangler.jsonc", "package.json", "package-lock.json"].contains(&path);
    match std::str::from_utf8(content) {
        Ok(text) if names_the_app => text
            .replace(&format!("\"name\": \"{template}\""), &format!("\"name\": \"{app}\""))
            .into_bytes(),
        _ => content.to_vec(),
    }
}

/// Writes every file or none.
fn write_all(dir: &Path, files: &[(&str, Vec<u8>)]) -> Result<(), Failure> {
    let in_the_way: Vec<_> =
        files.iter().map(|(path, _)| *path).filter(|path| exists(&dir.join(path))).collect();
    if !in_the_way.is_empty() {
        return Err(Failure::new(
            "exists",
            format!("{} already has {}", dir.display(), in_the_way.join(", ")),
        )
        .hint("nothing was written; name another folder, or move these files away"));
    }
    let parent = match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let new_dir = !dir.exists();
    let mut undo = Undo::default();
    undo.folders(if new_dir { parent } else { dir })?;
    if new_dir {
        // The whole project appears at once.
        let temporary = tempfile::Builder::new()
            .prefix(".verge-init-")
            .tempdir_in(parent)
            .map_err(|e| Failure::io("make a folder in", parent, &e))?;
        let project = temporary.path().join("project");
        fs::create_dir(&project).map_err(|e| Failure::io("make", &project, &e))?;
        for (path, content) in files {
            let target = project.join(path);
            let folder = target.parent().unwrap_or(&project);
            fs::create_dir_all(folder).map_err(|e| Failure::io("make", folder, &e))?;
            fs::write(&target, content).map_err(|e| Failure::io("write", &target, &e))?;
        }
        fs::rename(&project, dir).map_err(|e| Failure::io("make", dir, &e))?;
    } else {
        for (path, content) in files {
            let target = dir.join(path);
            undo.folders(target.parent().unwrap_or(dir))?;
            undo.write(&target, content)?;
        }
    }
    undo.keep();
    Ok(())
}

fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// Takes back what was made unless told to keep it.
#[derive(Default)]
struct Undo {
    files: Vec<PathBuf>,
    folders: Vec<PathBuf>,
}

impl Undo {
    fn folders(&mut self, folder: &Path) -> Result<(), Failure> {
        let missing: Vec<_> =
            folder.ancestors().take_while(|f| !f.as_os_str().is_empty() && !f.exists()).collect();
        for folder in missing.into_iter().rev() {
            fs::create_dir(folder).map_err(|e| Failure::io("make", folder, &e))?;
            self.folders.push(folder.to_owned());
        }
        Ok(())
    }

    fn write(&mut self, path: &Path, content: &[u8]) -> Result<(), Failure> {
        use std::io::Write;
        // Not even a file that appears at this moment is overwritten.
        let mut file = match fs::OpenOptions::new().write(true).create_new(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                return Err(Failure::new(
                    "exists",
                    format!("{} appeared meanwhile", path.display()),
                ));
            }
            Err(error) => return Err(Failure::io("write", path, &error)),
        };
        self.files.push(path.to_owned());
        file.write_all(content).map_err(|e| Failure::io("write", path, &e))
    }

    fn keep(mut self) {
        self.files.clear();
        self.folders.clear();
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        // Only what was made here, and only empty folders: a failure leaves it, never more.
        for file in &self.files {
            let _ = fs::remove_file(file);
        }
        for folder in self.folders.iter().rev() {
            let _ = fs::remove_dir(folder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_in_the_way_means_that_nothing_is_written() {
        let dir = tempfile::tempdir().expect("a folder");
        fs::write(dir.path().join("b"), "mine").expect("written");
        let files = [("a/x", vec![1]), ("b", vec![2])];
        let failure = write_all(dir.path(), &files).expect_err("refused");
        assert_eq!(failure.code, "exists");
        assert!(!exists(&dir.path().join("a")));
        assert_eq!(fs::read(dir.path().join("b")).expect("read"), b"mine");
    }

    #[test]
    fn half_made_projects_are_taken_back() {
        let dir = tempfile::tempdir().expect("a folder");
        // `a` is a file by the time `a/x` is to be written.
        let files = [("a", vec![1]), ("c/d/y", vec![1]), ("a/x", vec![2])];
        assert!(write_all(dir.path(), &files).is_err());
        assert_eq!(fs::read_dir(dir.path()).expect("read").count(), 0);
        let new = dir.path().join("deep/er/project");
        assert!(write_all(&new, &files).is_err());
        assert_eq!(fs::read_dir(dir.path()).expect("read").count(), 0);
    }

    #[test]
    fn folders_give_names() {
        for (dir, name) in [("x/My App_2", "my-app-2"), ("/", "app"), ("./a/..-b-", "b")] {
            assert_eq!(app_name(Path::new(dir)).expect("a name"), name);
        }
    }
}
