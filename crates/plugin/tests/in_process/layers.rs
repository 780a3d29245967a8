//! The architecture, as the source shows it: the core knows nothing of its surroundings, and no files import each other
//! in a circle.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Modules by path, such as `core::worker`, and the text of their files, without tests and comments.
fn modules() -> BTreeMap<String, String> {
    fn add(dir: &Path, path: &str, modules: &mut BTreeMap<String, String>) {
        for entry in std::fs::read_dir(dir).expect("a directory") {
            let file = entry.expect("an entry").path();
            let stem = file.file_stem().and_then(|stem| stem.to_str()).expect("a name").to_owned();
            let name = if path.is_empty() { stem.clone() } else { format!("{path}::{stem}") };
            if file.is_dir() {
                add(&file, &name, modules);
            } else {
                let text = std::fs::read_to_string(&file).expect("text");
                let code = text.split("#[cfg(test)]").next().unwrap_or_default();
                let lines = code.lines().map(|line| line.split("//").next().unwrap_or_default());
                let module = match stem.as_str() {
                    "mod" => path.to_owned(),
                    "lib" => String::new(),
                    "main" => continue,
                    _ => name,
                };
                modules.insert(module, lines.collect::<Vec<_>>().join("\n"));
            }
        }
    }
    let mut modules = BTreeMap::new();
    add(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut modules);
    modules
}

/// All paths in `text` that begin with `start`, with groups (`a::{b, c}`) taken apart.
fn paths(text: &str, start: &str) -> Vec<String> {
    fn read(text: &str, prefix: &str, found: &mut Vec<String>) -> usize {
        let mut at = 0;
        let mut path = prefix.to_owned();
        loop {
            let rest = &text[at..];
            let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            path.push_str(&rest[..word]);
            at += word;
            if text[at..].starts_with("::{") {
                at += 3;
                loop {
                    at += text[at..].len() - text[at..].trim_start().len();
                    at += read(&text[at..], &format!("{path}::"), found);
                    at += text[at..].len() - text[at..].trim_start_matches([' ', '\n', ',']).len();
                    if text[at..].starts_with('}') || at >= text.len() {
                        return at + 1;
                    }
                }
            }
            if !text[at..].starts_with("::") {
                found.push(path);
                return at.max(1);
            }
            path.push_str("::");
            at += 2;
        }
    }
    let mut found = Vec::new();
    for (at, _) in text.match_indices(start) {
        let before = text[..at].chars().next_back();
        if before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':') {
            read(&text[at + start.len()..], "", &mut found);
        }
    }
    found
}

/// The modules that each module imports or contains.
fn imports(modules: &BTreeMap<String, String>) -> BTreeMap<&str, BTreeSet<&str>> {
    let longest = |path: &str| {
        let mut path = path;
        loop {
            if let Some((module, _)) = modules.get_key_value(path) {
                return Some(module.as_str());
            }
            path = path.rsplit_once("::")?.0;
        }
    };
    let mut imports = BTreeMap::new();
    for (module, text) in modules {
        let mut of: BTreeSet<&str> = paths(text, "crate::").iter().filter_map(|path| longest(path)).collect();
        let parent = module.rsplit_once("::").map_or("", |(parent, _)| parent);
        for path in paths(text, "super::") {
            of.extend(longest(&format!("{parent}::{path}")));
        }
        let inside = |other: &str| match other.rsplit_once("::") {
            Some((parent, _)) => parent == module,
            None => module.is_empty() && !other.is_empty(),
        };
        of.extend(modules.keys().map(String::as_str).filter(|other| inside(other)));
        of.remove(module.as_str());
        imports.insert(module.as_str(), of);
    }
    imports
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let modules = modules();
    let mut left = imports(&modules);
    assert!(left["core::worker"].contains("core::order_book"), "the imports are read: {left:?}");
    assert!(left["adapters::rpc::buyer"].contains("core"), "the imports are read: {left:?}");
    // Whoever imports nothing that is left is no part of a circle.
    loop {
        let done: Vec<_> =
            left.iter().filter(|(_, of)| of.iter().all(|m| !left.contains_key(m))).map(|(m, _)| *m).collect();
        if done.is_empty() {
            break;
        }
        left.retain(|module, _| !done.contains(module));
    }
    assert!(left.is_empty(), "a circle: {left:#?}");
}

#[test]
fn the_core_knows_nothing_of_its_surroundings() {
    for (module, text) in modules() {
        if module.split("::").next() != Some("core") {
            continue;
        }
        for foreign in ["adapters", "cln_plugin", "cln_rpc", "serde_json", "rpc", "lxd_client", "Provisioner"]
        {
            let used = text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == foreign);
            assert!(!used, "{module} uses {foreign}");
        }
    }
}
