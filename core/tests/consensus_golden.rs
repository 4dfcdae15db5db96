//! Holds the golden scripts of consensus: `golden/consensus/*.txt` say what replicas do, to the letter.
//! The commands stand in `core/src/consensus/golden.rs`.

#![allow(clippy::unwrap_used, reason = "a script that cannot be read fails the test")]

use std::path::Path;

use trine_core::consensus::Mutants;
use trine_core::consensus::golden::rewrite;

#[test]
fn replicas_do_what_the_golden_scripts_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/consensus");
    let mut paths: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() > 30, "the scripts are there");
    for path in paths {
        let expected = std::fs::read_to_string(&path).unwrap();
        let found = rewrite(&expected, Mutants::none());
        if std::env::var_os("TRINE_REWRITE").is_some() {
            std::fs::write(&path, &found).unwrap();
            continue;
        }
        let differs = expected.lines().zip(found.lines()).zip(1..).find(|((a, b), _)| a != b);
        if let Some(((expected, found), line)) = differs {
            panic!("{}:{line}\n expected: {expected}\n found:    {found}", path.display());
        }
        assert_eq!(expected, found, "{}", path.display());
    }
}
