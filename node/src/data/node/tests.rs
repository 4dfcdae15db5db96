//! A node's data directory over starts, losses, replacements and damage.

use super::*;
use crate::config::{Config, NodeCli};

fn plan(path: &Path, change: impl Fn(String) -> String) -> NodePlan {
    let mut text = "cluster = \"6d6561737572696e67206f6e65206761\"\nroot_access_key = \"root\"\n\
                    root_secret_key = \"hunter22\"\n"
        .to_owned();
    for (id, zone) in [(1, "a"), (2, "b"), (3, "c")] {
        text += &format!(
            "[[nodes]]\nname = \"{zone}\"\nid = {id}\nzone = \"{zone}\"\n\
             peer = \"127.0.0.1:710{id}\"\ns3 = \"127.0.0.1:900{id}\"\nstores = [{id}, 1{id}]\n"
        );
    }
    let file = path.join("trine.toml");
    fs::write(&file, change(text)).unwrap();
    let node = Some("b".to_owned());
    let cli = NodeCli { config: Some(file), node, ..NodeCli::default() };
    Config::resolve_node(cli, []).unwrap().node.unwrap()
}

fn usual(path: &Path) -> NodePlan {
    plan(path, |text| text)
}

/// A directory whose stores have been made.
fn made(path: &Path, plan: &NodePlan) -> NodeDirectory {
    let mut data = NodeDirectory::open(&path.join("data"), plan).unwrap();
    for id in [2, 12] {
        fs::write(data.path().join(format!("store-{id}")), b"").unwrap();
        data.made(StoreId(id)).unwrap();
    }
    data
}

fn states(data: &NodeDirectory) -> Vec<(u64, KeptState)> {
    data.stores().iter().map(|store| (store.id().0, store.state)).collect()
}

#[test]
fn a_second_start_finds_what_the_first_made() {
    let directory = tempfile::tempdir().unwrap();
    let plan = usual(directory.path());
    let first = NodeDirectory::open(&directory.path().join("data"), &plan).unwrap();
    assert_eq!(states(&first), [(2, KeptState::BeingMade), (12, KeptState::BeingMade)]);
    assert!(!first.stores().iter().any(|store| first.is_lost(store)), "it was not made yet");
    drop(first);
    drop(made(directory.path(), &plan));
    let second = NodeDirectory::open(&directory.path().join("data"), &plan).unwrap();
    assert_eq!(states(&second), [(2, KeptState::Made), (12, KeptState::Made)]);
}

#[test]
fn a_directory_with_any_store_in_it_is_not_taken_for_a_new_one() {
    let directory = tempfile::tempdir().unwrap();
    let plan = usual(directory.path());
    let data = directory.path().join("data");
    // One that took another's place, and one of the first.
    for name in ["store-20", "store-12"] {
        fs::create_dir_all(&data).unwrap();
        fs::write(data.join(name), b"").unwrap();
        let refused = NodeDirectory::open(&data, &plan).expect_err("whose is it?");
        assert!(refused.to_string().contains(name), "{refused}");
        fs::remove_file(data.join(name)).unwrap();
    }
    fs::write(data.join("store-notes.txt"), b"").unwrap();
    NodeDirectory::open(&data, &plan).expect("that is no store");
}

#[test]
fn a_made_store_that_is_gone_is_lost_and_the_other_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let plan = usual(directory.path());
    let data = made(directory.path(), &plan);
    fs::remove_file(data.path().join("store-12")).unwrap();
    let lost: Vec<bool> = data.stores().iter().map(|store| data.is_lost(store)).collect();
    assert_eq!(lost, [false, true]);
}

#[test]
fn a_replacement_is_gone_on_with_from_each_of_its_states() {
    let directory = tempfile::tempdir().unwrap();
    let plan = usual(directory.path());
    let mut data = made(directory.path(), &plan);
    data.begin_replacement(StoreId(2), StoreId(20), None).unwrap();
    let again = |data: NodeDirectory| {
        drop(data);
        NodeDirectory::open(&directory.path().join("data"), &plan).unwrap()
    };
    let mut data = again(data);
    assert_eq!(states(&data)[2], (20, KeptState::BeingMade));
    assert_eq!(data.stores()[2].replaces(), Some(StoreId(2)));
    fs::write(data.path().join("store-20"), b"").unwrap();
    data.made(StoreId(20)).unwrap();
    let mut data = again(data);
    assert_eq!(states(&data)[2], (20, KeptState::ToBePlaced));
    assert_eq!(states(&data)[0], (2, KeptState::Made), "the map has the old one still");
    data.placed(Some(StoreId(2)), StoreId(20)).unwrap();
    let data = again(data);
    assert_eq!(states(&data)[0], (2, KeptState::Replaced));
    assert_eq!(states(&data)[2], (20, KeptState::Made));
    fs::remove_file(data.path().join("store-2")).unwrap();
    assert!(!data.is_lost(&data.stores()[0]), "nobody looks for it any more");
}

#[test]
fn an_addition_is_gone_on_with_from_each_of_its_states() {
    let directory = tempfile::tempdir().unwrap();
    let plan = usual(directory.path());
    let mut data = made(directory.path(), &plan);
    let added = Added { weight: 7, capacity: Some(2 << 30) };
    data.begin_addition(StoreId(20), None, added).unwrap();
    let again = |data: NodeDirectory| {
        drop(data);
        NodeDirectory::open(&directory.path().join("data"), &plan).unwrap()
    };
    let mut data = again(data);
    assert_eq!(states(&data)[2], (20, KeptState::BeingMade));
    assert_eq!((data.stores()[2].added(), data.stores()[2].replaces()), (Some(added), None));
    assert!(data.stores()[2].came_later() && !data.stores()[0].came_later());
    fs::write(data.path().join("store-20"), b"").unwrap();
    data.made(StoreId(20)).unwrap();
    let mut data = again(data);
    assert_eq!(states(&data)[2], (20, KeptState::ToBePlaced));
    data.placed(None, StoreId(20)).unwrap();
    let data = again(data);
    let all: Vec<KeptState> = states(&data).into_iter().map(|(_, state)| state).collect();
    assert_eq!(all, [KeptState::Made; 3], "nobody is replaced");
    assert_eq!(data.stores()[2].added(), Some(added));
}

#[test]
fn an_id_or_a_file_is_not_used_twice() {
    let directory = tempfile::tempdir().unwrap();
    let mut data = made(directory.path(), &usual(directory.path()));
    for (new, path) in [(12, None), (20, Some("store-12")), (20, Some("elsewhere"))] {
        if path == Some("elsewhere") {
            fs::write(data.path().join("elsewhere"), b"somebody's").unwrap();
        }
        let error = data.begin_replacement(StoreId(2), StoreId(new), path.map(PathBuf::from));
        let error = error.unwrap_err().to_string();
        assert!(error.contains("in use") && error.contains("--new and --path"), "{error}");
    }
    data.begin_replacement(StoreId(2), StoreId(20), None).unwrap();
    data.give_up(StoreId(20)).unwrap();
    assert!(data.begin_replacement(StoreId(2), StoreId(20), None).is_err(), "it is used up");
    data.begin_replacement(StoreId(2), StoreId(21), None).unwrap();
}

#[test]
fn a_directory_of_somebody_else_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let ours = usual(directory.path());
    drop(made(directory.path(), &ours));
    let open = |plan: &NodePlan| {
        NodeDirectory::open(&directory.path().join("data"), plan).unwrap_err().to_string()
    };
    let error = open(&plan(directory.path(), |text| text.replace("6d65", "ffff")));
    assert!(error.contains("node.toml") && error.contains("belongs to cluster 6d65"), "{error}");
    let mut other = ours.clone();
    other.me = crate::transport::NodeId(3);
    let error = open(&other);
    assert!(error.contains("id = 2") && error.contains("id = 3"), "{error}");
    let error = open(&plan(directory.path(), |text| text.replace("[3, 13]", "[3, 14]")));
    assert!(error.contains("trine admin store replace"), "{error}");
    assert!(error.contains("c: 3*1 13*1") && error.contains("c: 3*1 14*1"), "{error}");
}

#[test]
fn a_directory_of_an_all_in_one_process_and_one_without_its_file_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let plan = usual(directory.path());
    let path = directory.path().join("data");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("cluster.toml"), b"").unwrap();
    let error = NodeDirectory::open(&path, &plan).unwrap_err().to_string();
    assert!(error.contains("all-in-one"), "{error}");
    fs::remove_file(path.join("cluster.toml")).unwrap();
    drop(made(directory.path(), &plan));
    fs::remove_file(path.join("node.toml")).unwrap();
    let error = NodeDirectory::open(&path, &plan).unwrap_err().to_string();
    assert!(error.contains("node.toml is missing") && error.contains("store-2"), "{error}");
}

#[test]
fn damaged_and_foreign_node_files_are_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let plan = usual(directory.path());
    drop(made(directory.path(), &plan));
    let path = directory.path().join("data/node.toml");
    let good = fs::read_to_string(&path).unwrap();
    for (bad, word) in [
        (good.replace("version = 1", "version = 2"), "format version 2"),
        (good.replace("version = 1", ""), "no version"),
        (good.replace("id = 12", "id = 2"), "one id"),
        (good.replace("\"made\"", "\"maed\""), "maed"),
        (good.replace("node = 2", "nod = 2"), "nod"),
        (good[..good.len() / 2].to_owned(), "node.toml"),
        (String::new(), "no version"),
    ] {
        assert_ne!(bad, good);
        fs::write(&path, &bad).unwrap();
        let error = NodeDirectory::open(&directory.path().join("data"), &plan);
        let error = error.unwrap_err().to_string();
        assert!(error.contains("node.toml") && error.contains(word), "{word}: {error}");
    }
}

#[test]
fn a_directory_in_use_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let plan = usual(directory.path());
    let _held = made(directory.path(), &plan);
    let error = NodeDirectory::open(&directory.path().join("data"), &plan).unwrap_err();
    assert!(error.to_string().contains("another trine process"), "{error}");
}
