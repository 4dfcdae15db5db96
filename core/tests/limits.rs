//! Holds docs/limits.md against the code: each queue's limit has the name and the value that the page
//! says.

use std::fs;
use std::path::Path;

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("core lies in the workspace");
    fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Whether a source gives a constant or a field this value.
fn says(source: &str, name: &str, value: &str) -> bool {
    source.lines().any(|line| {
        let Some(at) = line.find(&format!("{name}: ")) else { return false };
        let before = line[..at].chars().next_back();
        let whole = before.is_none_or(|c| !c.is_alphanumeric() && c != '_');
        let rest = &line[at + name.len() + 2..];
        whole && (rest.ends_with(&format!("= {value};")) || rest == format!("{value},"))
    })
}

#[test]
fn limits_of_queues_are_as_the_page_says() {
    let page = read("docs/limits.md");
    let rows = page.split("\n## Queues\n").nth(1).expect("the page has a section of queues");
    let mut count = 0;
    for row in rows.lines().filter(|line| line.starts_with("| ") && line.contains('`')) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, _, name, value, path, _, _] = cells[..] else { panic!("{row}") };
        let bare = |cell: &str| cell.trim_matches('`').to_owned();
        let (name, value, path) = (bare(name), bare(value), bare(path));
        assert!(says(&read(&path), &name, &value), "{path} does not say {name} = {value}");
        count += 1;
    }
    assert!(count >= 35, "only {count} rows were read");
}

#[test]
fn another_value_or_name_is_noticed() {
    let source = "const CALLS_MAX: usize = 64;\n    calls_max: 16_384,\n";
    assert!(says(source, "CALLS_MAX", "64") && says(source, "calls_max", "16_384"));
    assert!(!says(source, "CALLS_MAX", "65") && !says(source, "ALLS_MAX", "64"));
}
