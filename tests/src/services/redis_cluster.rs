//! A real Redis Cluster on this machine: three masters, each with a replica, and the ways in which such a cluster loses what it has
//! acknowledged.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use super::{Redis, RedisKind, RedisOptions, installed, lasting_port};

/// How long a node may be silent before the others take it for dead.
const NODE_TIMEOUT_MS: &str = "1000";
/// Talk among nodes goes over a port this much further up; it is Redis's own rule.
const BUS: u16 = 10_000;

/// A running cluster of six; killed when dropped, its data with it.
pub struct RedisCluster {
    nodes: Vec<Redis>,
}

/// A node as the cluster sees it.
#[derive(Clone, Debug)]
struct Member {
    id: String,
    address: String,
    /// whose replica it is
    of: Option<String>,
    /// the first of its slots
    slot: Option<u16>,
    failed: bool,
}

impl RedisCluster {
    /// Starts one and waits until all six agree.
    pub fn start() -> RedisCluster {
        RedisCluster::start_with(&RedisOptions::default())
    }

    /// The same with settings for each node.
    pub fn start_with(options: &RedisOptions) -> RedisCluster {
        let options =
            options.clone().setting("cluster-enabled", "yes").setting("cluster-node-timeout", NODE_TIMEOUT_MS);
        let begin = |_| Redis::begin(lasting_port(BUS), RedisKind::Debian, &options);
        let nodes: Vec<Redis> = (0..6).map(begin).collect();
        nodes.iter().for_each(Redis::wait);
        let cluster = RedisCluster { nodes };
        let addresses = cluster.addresses();
        let mut create: Vec<&str> = vec!["create"];
        create.extend(addresses.iter().map(String::as_str));
        create.extend(["--cluster-replicas", "1", "--cluster-yes"]);
        cluster.cluster_command(&create);
        cluster.wait_ok();
        cluster
    }

    /// `127.0.0.1:PORT` of all nodes, also of those that are dead.
    pub fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(Redis::address).collect()
    }

    /// A node by its place in `addresses`.
    pub fn node(&self, number: usize) -> &Redis {
        &self.nodes[number]
    }

    /// The master of part `part` of the slots (0, 1 or 2, in the order of slots).
    pub fn master(&self, part: usize) -> &Redis {
        let masters = self.masters();
        self.by_address(&masters[part].address)
    }

    /// Its replica.
    pub fn replica(&self, part: usize) -> &Redis {
        let master = &self.masters()[part].id;
        let members = self.members();
        let replica = members.iter().find(|member| member.of.as_ref() == Some(master) && !member.failed);
        self.by_address(&replica.expect("every master has a replica, once wait_ok says so").address)
    }

    /// Runs a command on whoever has the key's slot.
    pub fn cli(&self, command: &[&str]) -> String {
        self.living().cli(&[&["-c"], command].concat())
    }

    /// kill -9 of a master; its replica takes over after the node's time-out, with what it has received.
    pub fn kill_master(&self, part: usize) {
        self.master(part).kill();
    }

    /// Cuts a replica off its master: from now on the master acknowledges writes that nobody else has. A `failover` loses them.
    pub fn cut(&self, part: usize) {
        let replica = self.replica(part);
        // With a password that the master does not know, it is turned away whenever it tries again.
        replica.configure("masterauth", "cut");
        replica.cli(&["client", "kill", "type", "master"]);
        self.wait_for("a replica to be cut off", || !linked(replica));
    }

    /// Kills a master and makes its replica take over as it is; the old master comes back as a replica, with nothing of its own.
    pub fn failover(&self, part: usize) {
        let (master, replica) = (self.master(part), self.replica(part));
        master.kill();
        replica.cli(&["cluster", "failover", "takeover"]);
        replica.configure("masterauth", "");
        let address = replica.address();
        self.wait_for("a replica to take over", || self.masters().get(part).is_some_and(|m| m.address == address));
        master.begin_again();
        self.wait_ok();
    }

    /// Starts the nodes that were killed, and waits until all six agree.
    pub fn restart(&self) {
        let dead: Vec<&Redis> = self.nodes.iter().filter(|node| !node.runs()).collect();
        dead.iter().for_each(|node| node.begin_again());
        self.wait_ok();
    }

    /// Moves the first slots of one part to another while the cluster serves. Parts go by their masters' first slots, so they may
    /// change places.
    pub fn reshard(&self, from: usize, to: usize, slots: u16) {
        let masters = self.masters();
        let address = self.living().address();
        let count = slots.to_string();
        let (from, to) = (&masters[from].id, &masters[to].id);
        let fixed = ["reshard", &address, "--cluster-yes", "--cluster-slots", &count];
        self.cluster_command(&[&fixed[..], &["--cluster-from", from, "--cluster-to", to]].concat());
        self.wait_ok();
    }

    /// Waits until every node says that all slots are served, all agree on who serves them, and every replica has what its master has.
    pub fn wait_ok(&self) {
        self.nodes.iter().filter(|node| node.runs()).for_each(Redis::wait);
        let count = self.nodes.iter().filter(|node| node.runs()).count();
        self.wait_for("the cluster to be whole", || {
            let living = || self.nodes.iter().filter(|node| node.runs());
            let said: Vec<String> =
                living().map(|node| node.try_cli(&["cluster", "info"]).unwrap_or_default()).collect();
            let masters: Vec<BTreeMap<u16, String>> = living().map(slots).collect();
            said.iter().all(|said| said.contains("cluster_state:ok"))
                && masters.windows(2).all(|pair| pair[0] == pair[1])
                && (count < self.nodes.len() || self.each_has_a_replica())
        });
    }

    fn each_has_a_replica(&self) -> bool {
        let members = self.members();
        let replicas = members.iter().filter(|member| member.of.is_some() && !member.failed);
        let linked = |member: &&Member| linked(self.by_address(&member.address));
        members.len() == self.nodes.len() && replicas.filter(linked).count() == 3
    }

    fn masters(&self) -> Vec<Member> {
        let mut masters: Vec<Member> = self.members().into_iter().filter(|member| member.slot.is_some()).collect();
        masters.sort_by_key(|master| master.slot);
        masters
    }

    fn members(&self) -> Vec<Member> {
        members(self.living())
    }

    fn living(&self) -> &Redis {
        self.nodes.iter().find(|node| node.runs()).expect("not all nodes are killed")
    }

    fn by_address(&self, address: &str) -> &Redis {
        self.nodes.iter().find(|node| node.address() == address).expect("the cluster has these nodes alone")
    }

    fn cluster_command(&self, arguments: &[&str]) {
        let said = Command::new(installed("redis-cli")).arg("--cluster").args(arguments).output();
        let said = said.expect("redis-cli runs");
        assert!(said.status.success(), "redis-cli --cluster: {}", String::from_utf8_lossy(&said.stdout));
    }

    fn wait_for(&self, what: &str, mut ready: impl FnMut() -> bool) {
        for _ in 0..1200 {
            if ready() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let says = |node: &Redis| {
            let said = |command: &[&str]| node.try_cli(command).unwrap_or_else(|error| error.to_string());
            format!("{}:\n{}\n{}", node.address(), said(&["cluster", "nodes"]), said(&["info", "replication"]))
        };
        let living: Vec<String> = self.nodes.iter().filter(|node| node.runs()).map(says).collect();
        panic!("a minute is too short for {what}:\n{}", living.join("\n"));
    }
}

/// Whether a replica follows its master, with all of the first copy received.
fn linked(replica: &Redis) -> bool {
    replica.try_cli(&["info", "replication"]).is_ok_and(|said| said.contains("master_link_status:up"))
}

/// Who serves slots, by the first of them, as one node sees it.
fn slots(node: &Redis) -> BTreeMap<u16, String> {
    members(node).into_iter().filter_map(|member| Some((member.slot?, member.id))).collect()
}

/// Lines of CLUSTER NODES: id, address@bus, flags, whose replica, ping, pong, epoch, link, slots.
fn members(node: &Redis) -> Vec<Member> {
    let text = node.try_cli(&["cluster", "nodes"]).unwrap_or_default();
    let member = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let [id, address, flags, of] = *words.get(..4)? else { return None };
        let slot = |word: &&str| word.split('-').next()?.parse().ok();
        Some(Member {
            id: id.to_string(),
            address: address.split('@').next()?.to_string(),
            of: flags.contains("slave").then(|| of.to_string()),
            slot: words.get(8..)?.iter().filter_map(slot).min(),
            failed: flags.contains("fail"),
        })
    };
    text.lines().filter_map(member).collect()
}
