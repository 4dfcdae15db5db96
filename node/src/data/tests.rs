//! The data directory over starts, losses and damage.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::runtime::tokio::TokioRuntime;

fn open(path: &Path) -> Result<DataDirectory, DataError> {
    DataDirectory::open(&TokioRuntime::new(), path)
}

/// A directory whose stores have all been made.
fn made(path: &Path) -> Identity {
    let mut data = open(path).unwrap();
    for (zone, _) in data.identity().clone().stores() {
        fs::write(data.store_path(zone), b"").unwrap();
    }
    data.stores_made().unwrap();
    data.identity().clone()
}

#[test]
fn a_second_start_finds_the_same_identities() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    let first = made(&path);
    assert_eq!(open(&path).unwrap().identity(), &first);
    let zones: Vec<char> = first.stores().map(|(zone, _)| zone.letter()).collect();
    assert_eq!(zones, ['a', 'b', 'c']);
    assert_ne!(first.cluster, made(&directory.path().join("other")).cluster);
}

#[test]
fn a_start_that_crashed_while_making_stores_is_gone_on_with() {
    let directory = tempfile::tempdir().unwrap();
    let first = {
        let data = open(directory.path()).unwrap();
        fs::write(data.store_path(ZoneId(0)), b"").unwrap();
        data.identity().clone()
    };
    fs::remove_dir(zone_path(directory.path(), ZoneId(2))).unwrap();
    let again = open(directory.path()).unwrap();
    assert_eq!(again.identity(), &first);
    assert!(zone_path(directory.path(), ZoneId(2)).is_dir());
}

#[test]
fn a_store_without_its_cluster_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    made(directory.path());
    fs::remove_file(directory.path().join("cluster.toml")).unwrap();
    let error = open(directory.path()).unwrap_err().to_string();
    assert!(error.contains("cluster.toml is missing"), "{error}");
    assert!(error.contains("zone-a/store"), "{error}");
}

#[test]
fn a_made_store_that_is_gone_is_not_made_again() {
    let directory = tempfile::tempdir().unwrap();
    made(directory.path());
    fs::remove_file(directory.path().join("zone-b/store")).unwrap();
    let error = open(directory.path()).unwrap_err().to_string();
    assert!(error.contains("zone-b/store is missing"), "{error}");
    assert!(!directory.path().join("zone-b/store").exists());
}

#[test]
fn a_directory_in_use_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let _held = open(directory.path()).unwrap();
    let error = open(directory.path()).unwrap_err().to_string();
    assert!(error.contains(&directory.path().display().to_string()), "{error}");
    assert!(error.contains("another trine process"), "{error}");
}

#[test]
fn damaged_and_foreign_cluster_files_are_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    made(directory.path());
    let path = directory.path().join("cluster.toml");
    let good = fs::read_to_string(&path).unwrap();
    for (bad, word) in [
        (good.replace("version = 1", "version = 2"), "format version 2"),
        (good.replace("version = 1", ""), "no version"),
        (good.replace("groups = 4096", "groups = 4095"), "power of two"),
        (good.replace("[1, 2, 3]", "[1, 2]"), "2 store ids"),
        (good.replace("[1, 2, 3]", "[1, 2, 2]"), "one id"),
        (good.replace("cluster = \"", "cluster = \"x"), "not hexadecimal"),
        (good.replace("gateway = 1", "gatewya = 1"), "gatewya"),
        (good[..good.len() / 2].to_owned(), "damaged"),
        (String::new(), "no version"),
    ] {
        assert_ne!(bad, good);
        fs::write(&path, &bad).unwrap();
        let error = open(directory.path()).unwrap_err().to_string();
        assert!(error.contains("cluster.toml") && error.contains(word), "{word}: {error}");
    }
}

#[test]
fn the_root_key_is_made_once_and_kept_from_others() {
    let directory = tempfile::tempdir().unwrap();
    let runtime = TokioRuntime::new();
    let first = open(directory.path()).unwrap().root_key(&runtime).unwrap();
    let again = open(directory.path()).unwrap().root_key(&runtime).unwrap();
    assert_eq!(first, again);
    let mode = fs::metadata(directory.path().join("root-key.toml")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_damaged_key_file_is_named_and_its_secret_not_shown() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("root-key.toml");
    fs::write(&path, "access_key = 'root'\nsecret_kye = 'hunter22'\n").unwrap();
    let data = open(directory.path()).unwrap();
    let error = data.root_key(&TokioRuntime::new()).unwrap_err().to_string();
    assert!(error.contains("root-key.toml"), "{error}");
    assert!(!error.contains("hunter22"), "{error}");
}
