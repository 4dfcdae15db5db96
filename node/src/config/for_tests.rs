//! Configurations for tests of other modules.

use super::{Config, NodeCli, NodePlan};

/// A cluster of these nodes, by id and name, each with the store of its number; the zone is the name's first
/// letter, and the first is this one. Node 1 listens on 7101 for its peers and on 9001 for clients, and so on.
pub(crate) fn plan_of(nodes: &[(u32, &str)]) -> NodePlan {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("trine.toml");
    let mut text = "cluster = \"6d6561737572696e67206f6e65206761\"\nroot_access_key = \"root\"\n\
                    root_secret_key = \"hunter22\"\n"
        .to_owned();
    for (id, name) in nodes {
        text += &format!(
            "[[nodes]]\nname = \"{name}\"\nid = {id}\nzone = \"{}\"\n\
             peer = \"127.0.0.1:710{id}\"\ns3 = \"127.0.0.1:900{id}\"\nstores = [{id}]\n",
            &name[..1]
        );
    }
    std::fs::write(&file, text).unwrap();
    let node = Some(nodes[0].1.to_owned());
    let cli = NodeCli { config: Some(file), node, ..NodeCli::default() };
    Config::resolve_node(cli, []).unwrap().node.unwrap()
}
