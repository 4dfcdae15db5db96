//! Clusters as files describe them, and what is said about wrong ones.

use trine_core::ids::StoreId;
use trine_core::level::{Level, Levels};

use super::*;

const CLUSTER: &str = "6d6561737572696e67206f6e65206761";

/// A cluster of three nodes with a store each.
fn good() -> String {
    let mut text = format!(
        "cluster = \"{CLUSTER}\"\nroot_access_key = \"root\"\nroot_secret_key = \"hunter22\"\n"
    );
    for (id, zone) in [(1, "a"), (2, "b"), (3, "c")] {
        text += &format!(
            "[[nodes]]\nname = \"{zone}1\"\nid = {id}\nzone = \"{zone}\"\n\
             peer = \"127.0.0.1:710{id}\"\ns3 = \"127.0.0.1:900{id}\"\nstores = [{id}]\n"
        );
    }
    text
}

fn resolve_as(text: &str, node: Option<&str>, pairs: &[(&str, &str)]) -> Result<Config, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("trine.toml");
    std::fs::write(&path, text).unwrap();
    let cli = NodeCli { config: Some(path), node: node.map(str::to_owned), ..NodeCli::default() };
    let environment =
        pairs.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    Config::resolve_node(cli, environment).map_err(|error| error.to_string())
}

fn resolve(text: &str) -> Result<Config, String> {
    resolve_as(text, Some("a1"), &[])
}

#[test]
fn one_file_serves_every_node() {
    let maps = ["a1", "b1", "c1"].map(|name| {
        let config = resolve_as(&good(), Some(name), &[]).unwrap();
        let plan = config.node.unwrap();
        assert_eq!(plan.own().name, name);
        assert_eq!(config.listen, plan.own().s3);
        plan.map()
    });
    assert_eq!(maps[0], maps[1]);
    assert_eq!(maps[0], maps[2]);
    let voters: Vec<u64> = maps[0].voters.iter().map(|store| store.0).collect();
    assert_eq!(voters, [1, 2, 3]);
}

#[test]
fn the_order_of_nodes_in_a_file_makes_no_difference() {
    let text = good();
    let (head, nodes) = text.split_at(text.find("[[nodes]]").unwrap());
    let mut entries: Vec<&str> = nodes.split_inclusive("]\n[[nodes]]").collect();
    assert_eq!(entries.len(), 3);
    entries.reverse();
    let turned: String = entries
        .iter()
        .map(|e| e.trim_start_matches("[[nodes]]").trim_end_matches("[[nodes]]"))
        .map(|entry| format!("[[nodes]]\n{entry}\n"))
        .collect();
    let turned = resolve(&format!("{head}{turned}")).unwrap().node.unwrap();
    assert_eq!(turned.map(), resolve(&text).unwrap().node.unwrap().map());
}

#[test]
fn several_nodes_in_a_zone_and_several_stores_at_a_node_are_taken() {
    let text = good()
        + "[[nodes]]\nname = \"a2\"\nid = 7\nzone = \"a\"\npeer = \"127.0.0.1:7107\"\n\
           s3 = \"127.0.0.1:9007\"\n[[nodes.stores]]\nid = 8\npath = \"/disks/8\"\nweight = 3\n\
           capacity = \"2GiB\"\n[[nodes.stores]]\nid = 9\n\
           [[nodes]]\nname = \"b2\"\nid = 8\nzone = \"b\"\npeer = \"127.0.0.1:7108\"\n\
           s3 = \"127.0.0.1:9008\"\n";
    let plan = resolve_as(&text, Some("a2"), &[]).unwrap().node.unwrap();
    assert_eq!(plan.own().stores.len(), 2);
    assert_eq!(plan.own().stores[0].geometry.unwrap().capacity, 2 << 30);
    let slots: Vec<(u64, u32)> =
        plan.map().zones[0].slots.iter().map(|slot| (slot.store.0, slot.weight)).collect();
    assert_eq!(slots, [(1, 1), (8, 3), (9, 1)]);
}

#[test]
fn the_defaults_are_those_of_the_machines() {
    let config = resolve(&good()).unwrap();
    assert_eq!(config.timing, StoreTiming::DEFAULT);
    assert_eq!(config.node.unwrap().links, LinkTiming::DEFAULT);
}

#[test]
fn a_process_stands_for_an_older_version_if_told_to() {
    assert_eq!(resolve(&good()).unwrap().levels, Levels::OWN);
    let old = resolve(&format!("level_max = \"1\"\n{}", good())).unwrap().levels;
    assert_eq!(old, Levels { max: Level(1), ..Levels::OWN });
}

#[test]
fn times_are_taken() {
    let text = format!(
        "scrub_every = \"12h\"\nrepair_rate = \"10MiB\"\nheartbeat = \"40ms\"\nelection_min = \"1s\"\nelection_max = \"9s\"\n\
         link_keepalive = \"20ms\"\nlink_silence = \"2s\"\nlink_dial = \"3s\"\n{}",
        good()
    );
    let config = resolve(&text).unwrap();
    assert_eq!(config.timing.heartbeat, Duration::from_millis(40));
    assert_eq!(config.timing.election_min, Duration::from_secs(1));
    assert_eq!(config.timing.election_max, Duration::from_secs(9));
    assert_eq!(config.timing.scrub_every, Duration::from_secs(12 * 3600));
    assert_eq!(config.timing.repair_bytes_per_second, 10 << 20);
    let links = config.node.unwrap().links;
    assert_eq!(
        (links.keepalive, links.silence),
        (Duration::from_millis(20), Duration::from_secs(2))
    );
}

#[test]
fn the_data_directory_is_said_by_flag_or_variable_or_node_or_file() {
    let own = good().replace("name = \"a1\"", "name = \"a1\"\ndata = \"of-node\"");
    assert_eq!(resolve(&good()).unwrap().data, PathBuf::from("./trine-data"));
    assert_eq!(resolve(&own).unwrap().data, PathBuf::from("of-node"));
    let both = format!("data = \"of-file\"\n{own}");
    assert_eq!(resolve(&both).unwrap().data, PathBuf::from("of-node"));
    assert_eq!(resolve_as(&both, Some("b1"), &[]).unwrap().data, PathBuf::from("of-file"));
    let said = resolve_as(&both, Some("a1"), &[("TRINE_DATA", "of-variable")]).unwrap();
    assert_eq!(said.data, PathBuf::from("of-variable"));
}

#[test]
fn each_contradiction_is_told_with_a_way_out() {
    let cases: &[(&str, &str, &str)] = &[
        // (what stands there, what is put in its place, what the error says)
        ("cluster = \"6d", "cluster = \"6", "32 hexadecimal digits"),
        (CLUSTER, "00000000000000000000000000000000", "32 hexadecimal digits"),
        ("cluster = \"6d6561737572696e67206f6e65206761\"\n", "", "--new-cluster-id"),
        ("root_access_key = \"root\"\nroot_secret_key = \"hunter22\"\n", "", "no root key pair"),
        ("root_access_key = \"root\"\n", "", "only half"),
        ("name = \"b1\"", "name = \"a1\"", "both called \"a1\""),
        ("name = \"b1\"", "name = \"b 1\"", "letters, digits"),
        ("id = 2", "id = 1", "both have id = 1"),
        ("id = 2", "id = 0", "a number from 1"),
        ("id = 2", "id = -2", "trine.toml"),
        ("zone = \"b\"", "zone = \"d\"", "\"a\", \"b\" or \"c\""),
        ("zone = \"b\"", "zone = \"a\"", "zone b has no node"),
        ("zone = \"b\"\n", "", "missing field `zone`"),
        ("stores = [2]", "stores = []", "zone b has no store"),
        ("stores = [2]", "stores = [1]", "store-1 is both at node \"a1\" and at node \"b1\""),
        ("stores = [2]", "stores = [2, 2]", "store-2 is both"),
        ("stores = [2]", "stores = [0]", "numbers from 1"),
        ("stores = [2]", "stores = [-2]", "below 0"),
        ("stores = [2]", "stores = [\"2\"]", "the number of a store"),
        ("stores = [2]", "stores = [{ id = 2, weight = 0 }]", "weight = 0"),
        ("stores = [2]", "stores = [{ id = 2, wieght = 1 }]", "wieght"),
        ("stores = [2]", "stores = [{ id = 2, capacity = \"9\" }]", "from 1GiB to 64TiB"),
        (
            "stores = [2]",
            "stores = [{ id = 2, path = \"x\" }, { id = 5, path = \"x\" }]",
            "node \"b1\": path = \"x\" of store-2 and path = \"x\" of store-5 are one file",
        ),
        (
            "stores = [2]",
            "stores = [{ id = 2, path = \"x\" }, { id = 5, path = \"./y/..//x\" }]",
            "are one file",
        ),
        (
            "stores = [2]",
            "stores = [{ id = 2, path = \"store-5\" }, 5]",
            "path = \"store-5\" of store-2 and store-5 (which has no path of its own) are one file",
        ),
        (
            "stores = [2]",
            "data = \"/d/b1\"\nstores = [{ id = 2, path = \"/d/b1/store-5\" }, 5]",
            "are one file",
        ),
        (
            "stores = [2]",
            "stores = [{ id = 2, path = \"node.toml\" }]",
            "path of store-2 is node.toml",
        ),
        ("stores = [2]", "stores = [{ id = 2, path = \"./admin.sock.new\" }]", "path of store-2"),
        ("peer = \"127.0.0.1:7102\"", "peer = \"127.0.0.1:7101\"", "port of its own"),
        ("s3 = \"127.0.0.1:9002\"", "s3 = \"127.0.0.1:7101\"", "port of its own"),
        ("peer = \"127.0.0.1:7102\"", "peer = \"zone-b:7102\"", "names are not looked up"),
        ("peer = \"127.0.0.1:7102\"", "peer = \"127.0.0.1:0\"", "an address and a port"),
        ("peer = \"127.0.0.1:7101\"", "peer = \"10.0.0.1:7101\"", "--insecure-peer-listen"),
        ("s3 = \"127.0.0.1:9001\"", "s3 = \"0.0.0.0:9001\"", "--insecure-listen"),
        ("peer = \"127.0.0.1:7102\"", "peeer = \"127.0.0.1:7102\"", "peeer"),
        ("cluster = ", "clutser = ", "did you mean cluster?"),
        ("cluster = ", "listen = \"127.0.0.1:1\"\ncluster = ", "is for the all-in-one process"),
        ("cluster = ", "link_silence = \"100ms\"\ncluster = ", "three times link_keepalive"),
        ("cluster = ", "link_silence = \"100\"\ncluster = ", "a whole number with a unit"),
        ("cluster = ", "election_min = \"60ms\"\ncluster = ", "three times heartbeat"),
        ("cluster = ", "scrub_every = \"0d\"\ncluster = ", "unit of s, h or d"),
        ("cluster = ", "scrub_every = \"90 min\"\ncluster = ", "unit of s, h or d"),
        ("cluster = ", "repair_rate = \"0MiB\"\ncluster = ", "bytes per second"),
        ("cluster = ", "level_max = \"99\"\ncluster = ", "a feature level"),
        ("cluster = ", "election_max = \"80ms\"\ncluster = ", "at least election_min"),
    ];
    for (there, instead, said) in cases {
        let text = good().replacen(there, instead, 1);
        assert_ne!(text, good(), "{there}");
        let error = resolve(&text).expect_err(said);
        assert!(error.contains(said), "{instead:?}: {said:?} is not in: {error}");
        assert!(!error.contains("hunter22"), "{error}");
    }
}

#[test]
fn a_node_has_no_more_stores_than_it_can_tell_its_peers() {
    let with = |count: usize| {
        let ids: Vec<String> = (100..100 + count).map(|id| id.to_string()).collect();
        resolve(&good().replacen("stores = [2]", &format!("stores = [{}]", ids.join(", ")), 1))
    };
    assert!(with(crate::transport::STORES_MAX).is_ok());
    let error = with(crate::transport::STORES_MAX + 1).unwrap_err();
    assert!(error.contains("node \"b1\": stores has 1023") && error.contains("1022"), "{error}");
}

/// A replacement was as large as `capacity` says of all stores, whatever its own store had.
#[test]
fn a_replacement_is_as_large_as_the_first_in_its_place() {
    let text = good().replacen("stores = [2]", "stores = [{ id = 2, capacity = \"3GiB\" }, 4]", 1);
    let plan = resolve(&text).unwrap().node.unwrap();
    let later = [(1002, 2), (2002, 1002), (3002, 4), (7, 8), (8, 7)];
    let capacity = |id: u64| {
        let replaces =
            |id: StoreId| later.iter().find(|(new, _)| *new == id.0).map(|(_, old)| StoreId(*old));
        plan.geometry_of(StoreId(id), replaces).map(|geometry| geometry.capacity)
    };
    assert_eq!([2, 1002, 2002].map(capacity), [Some(3 << 30); 3]);
    assert_eq!([4, 3002, 5, 7].map(capacity), [None; 4]);
}

#[test]
fn a_node_must_be_said_and_be_there() {
    let error = resolve_as(&good(), None, &[]).unwrap_err();
    assert!(error.contains("--node NAME") && error.contains("a1, b1, c1"), "{error}");
    let error = resolve_as(&good(), Some("d1"), &[]).unwrap_err();
    assert!(error.contains("--node: there is no node \"d1\""), "{error}");
    assert!(error.contains("a1, b1, c1"), "{error}");
    let config = resolve_as(&good(), None, &[("TRINE_NODE", "b1")]).unwrap();
    assert_eq!(config.node.unwrap().own().name, "b1");
    let in_file = format!("node = \"c1\"\n{}", good());
    assert_eq!(resolve_as(&in_file, None, &[]).unwrap().node.unwrap().own().name, "c1");
}

#[test]
fn the_two_ways_of_running_are_not_mixed_up() {
    let error = Config::resolve_node(NodeCli::default(), []).unwrap_err().to_string();
    assert!(error.contains("needs --config FILE"), "{error}");
    let error = resolve("region = \"us-east-1\"").unwrap_err();
    assert!(error.contains("it lists no nodes"), "{error}");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("trine.toml");
    std::fs::write(&path, good()).unwrap();
    let cli = Cli { config: Some(path), ..Cli::default() };
    let error = Config::resolve(cli, []).unwrap_err().to_string();
    assert!(error.contains("trine node --config"), "{error}");
    let variables = [(OsString::from("TRINE_NODE"), OsString::from("a1"))];
    let error = Config::resolve(Cli::default(), variables).unwrap_err().to_string();
    assert!(error.contains("TRINE_NODE is for a node of a cluster"), "{error}");
}

#[test]
fn the_gateway_of_a_node_is_its_own() {
    let plan = resolve(&good()).unwrap().node.unwrap();
    let gateways: std::collections::BTreeSet<_> =
        plan.nodes.keys().map(|id| NodePlan::gateway(*id)).collect();
    assert_eq!(gateways.len(), plan.nodes.len());
}
