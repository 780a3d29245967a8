//! The files of this crate import each other in one direction only.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The modules below `dir`, by path within the crate, with the text of each outside its tests.
fn modules(dir: &Path, prefix: &str, out: &mut BTreeMap<String, String>) {
    for entry in std::fs::read_dir(dir).expect("the sources").flatten() {
        let (path, name) = (entry.path(), entry.file_name().into_string().expect("text"));
        if path.is_dir() {
            modules(&path, &format!("{prefix}{name}::"), out);
        } else if let Some(stem) = name.strip_suffix(".rs").filter(|stem| !matches!(*stem, "main" | "lib")) {
            let module = if stem == "mod" {
                prefix.trim_end_matches("::").to_owned()
            } else {
                format!("{prefix}{stem}")
            };
            let text = std::fs::read_to_string(&path).expect("readable");
            let code = text.split("#[cfg(test)]").next().unwrap_or_default().to_owned();
            out.insert(module, code);
        }
    }
}

/// The paths in an import such as `a::{b, c::d}`, as far as the second name.
fn paths(import: &str) -> Vec<String> {
    let first = |text: &str| text.split("::").next().unwrap_or_default().trim().to_owned();
    match import.strip_prefix('{') {
        Some(list) => {
            list.trim_end_matches('}').split(',').map(first).filter(|name| !name.is_empty()).collect()
        }
        None => vec![first(import)],
    }
}

/// The modules that one imports.
fn imports(module: &str, text: &str, all: &BTreeMap<String, String>) -> BTreeSet<String> {
    let parent = module.rsplit_once("::").map(|(parent, _)| parent);
    let mut found = BTreeSet::new();
    // Doc comments may refer to anything.
    let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    for statement in code.join(" ").split(';') {
        let Some((_, import)) = statement.rsplit_once("use ") else { continue };
        let import = import.trim();
        if let Some(rest) = import.strip_prefix("crate::") {
            found.extend(paths(rest));
        } else if let Some(rest) = import.strip_prefix("super::") {
            let parent = parent.expect("only a module within another has `super`");
            found.extend(paths(rest).into_iter().map(|name| format!("{parent}::{name}")));
        } else if all.contains_key(&format!("{module}::{}", paths(import)[0])) {
            found.insert(format!("{module}::{}", paths(import)[0]));
        }
    }
    found.retain(|name| all.contains_key(name) && name != module);
    found
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let mut all = BTreeMap::new();
    modules(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut all);
    let mut graph: BTreeMap<_, _> =
        all.iter().map(|(module, text)| (module.clone(), imports(module, text, &all))).collect();
    let edges: usize = graph.values().map(BTreeSet::len).sum();
    assert!(graph.len() > 20 && edges > 50, "{} files and {edges} imports are not all", graph.len());
    // Takes away what depends on nothing that is left, until nothing changes.
    loop {
        let before = graph.len();
        let left: BTreeSet<String> = graph.keys().cloned().collect();
        graph.retain(|_, imports| imports.iter().any(|import| left.contains(import)));
        if graph.len() == before {
            break;
        }
    }
    assert!(graph.is_empty(), "these import each other: {graph:#?}");
}
