//! Holds what no lint holds: what core's sources may name, how long files may be, which crate may
//! depend on which, and that nothing unfinished is left lying about. (`unsafe` is a lint's: the
//! workspace forbids it.)

use std::fs;
use std::path::{Path, PathBuf};

/// A file is a room with one purpose; past this it is split along a seam that has a name.
const LINES_MAX: usize = 800;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("core lies in the workspace").to_owned()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a source folder can be read") {
            let path = entry.expect("a source folder can be read").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    assert!(!files.is_empty(), "no sources below {}", folder.display());
    files.sort();
    files
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn core_does_no_io_and_reads_no_clock() {
    let modules = ["fs", "net", "thread", "time", "env", "process", "io"];
    let banned: Vec<String> = modules
        .iter()
        .map(|module| format!("std::{module}"))
        .chain(["tokio", "rand::", "HashMap", "HashSet"].map(str::to_owned))
        .collect();
    let mut found = Vec::new();
    for path in rust_files(&root().join("core/src")) {
        for (number, line) in read(&path).lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for word in banned.iter().filter(|word| code.contains(word.as_str())) {
                found.push(format!("{}:{}: {word}", path.display(), number + 1));
            }
        }
    }
    assert!(found.is_empty(), "core is sans-IO:\n{}", found.join("\n"));
}

/// What a run is asked for is kept per thread, in one place and under one feature: see `core/src/rare.rs`.
#[test]
fn core_has_no_globals_but_those_of_a_simulated_run() {
    let mut found = Vec::new();
    for path in rust_files(&root().join("core/src")) {
        let mut lines = read(&path).lines().map(str::to_owned).collect::<Vec<_>>();
        if path.ends_with("core/src/rare.rs") {
            let is_global = |line: &String| line.contains("thread_local!");
            let at = lines.iter().position(is_global).expect("rare.rs keeps a run");
            assert_eq!(lines[at - 1], "#[cfg(feature = \"rare\")]", "not in production");
            let end = lines[at..].iter().position(|line| line == "}").expect("it ends");
            lines.drain(at..=at + end);
        }
        for line in &lines {
            let code = line.split("//").next().unwrap_or_default().trim_start();
            let changes =
                ["Cell", "Atomic", "Lock", "Mutex"].iter().any(|word| code.contains(word));
            let is_static = code.contains("static mut ") || (code.contains("static ") && changes);
            if is_static || code.contains("thread_local") {
                found.push(format!("{}: {}", path.display(), line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "globals:\n{}", found.join("\n"));
}

#[test]
fn modules_of_core_import_only_what_is_read_before_them() {
    // As the crate's doc gives the reading order.
    let order = [
        "codec",
        "ids",
        "time",
        "hash",
        "rng",
        "rare",
        "level",
        "disk",
        "rows",
        "object",
        "checksum",
        "cluster",
        "placement",
        "directory",
        "request",
        "fair",
        "memory",
        "consensus",
        "range",
        "message",
        "wire",
        "effects",
        "storage",
        "gateway",
        "store",
        "inspect",
        "fuzzing",
    ];
    let source = root().join("core/src");
    let mut found = Vec::new();
    for path in rust_files(&source) {
        let inside = path.strip_prefix(&source).expect("a file below the folder");
        let parts: Vec<_> = inside.iter().filter_map(|part| part.to_str()).collect();
        // Tests may use what lies above.
        if parts == ["lib.rs"] || parts.iter().any(|part| part.contains("tests")) {
            continue;
        }
        let place = |module: &str| order.iter().position(|name| *name == module);
        let own = place(parts[0].trim_end_matches(".rs"));
        assert!(own.is_some(), "{}: put it into the reading order", path.display());
        for line in read(&path).lines() {
            let code = line.split("//").next().unwrap_or_default();
            for import in code.split("crate::").skip(1) {
                let end = import.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(import.len());
                let proof = import.starts_with("storage::Durable;");
                if place(&import[..end]) > own && !proof {
                    found.push(format!("{}: {}", path.display(), line.trim()));
                }
            }
        }
    }
    assert!(found.is_empty(), "these look upwards:\n{}", found.join("\n"));
}

#[test]
fn files_fit_in_a_head() {
    let mut long = Vec::new();
    for path in rust_files(&root()) {
        let lines = read(&path).lines().count();
        if lines > LINES_MAX {
            long.push(format!("{}: {lines} lines, at most {LINES_MAX}", path.display()));
        }
    }
    assert!(long.is_empty(), "split these:\n{}", long.join("\n"));
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent: Vec<String> = rust_files(&root())
        .into_iter()
        .filter(|path| !read(path).starts_with("//!"))
        .map(|path| path.display().to_string())
        .collect();
    assert!(silent.is_empty(), "begin these with `//!`:\n{}", silent.join("\n"));
}

#[test]
fn crates_depend_only_downwards() {
    // What the crate is built from, and what its tests may use besides.
    let allowed: [(&str, &[&str], &[&str]); 6] = [
        // Itself, with a feature that production does not enable.
        ("core", &[], &["trine-core"]),
        ("sim", &["trine-core"], &[]),
        ("s3", &["trine-core"], &[]),
        ("node", &["trine-core", "trine-s3"], &[]),
        ("fault-scenarios", &["trine-core", "trine-sim", "trine-node", "trine-s3"], &[]),
        ("compat-tests", &[], &[]),
    ];
    for (folder, built_from, tests_use) in allowed {
        let mut section = String::new();
        let mut found = 0;
        for line in read(&root().join(folder).join("Cargo.toml")).lines() {
            if line.starts_with('[') {
                section = line.trim_matches(['[', ']', ' ']).to_owned();
                assert!(!section.contains("dependencies."), "{folder}: one line per dependency");
            } else if section.ends_with("dependencies") && line.starts_with("trine-") {
                let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
                let for_tests = section == "dev-dependencies" && tests_use.contains(&name);
                let fits = built_from.contains(&name) || for_tests;
                assert!(fits, "{folder} must not have {name} among its {section}");
                found += 1;
            }
        }
        assert!(found > 0 || built_from.is_empty(), "{folder} depends on none of {built_from:?}");
    }
}

#[test]
fn nothing_is_left_unfinished() {
    let marks = [["to", "do!("].concat(), ["unimple", "mented!("].concat(), ["FIX", "ME"].concat()];
    let mut found = Vec::new();
    for path in rust_files(&root()) {
        for (number, line) in read(&path).lines().enumerate() {
            if marks.iter().any(|mark| line.contains(mark.as_str())) {
                found.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "finish these:\n{}", found.join("\n"));
}
