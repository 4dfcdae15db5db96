//! Kills of the process with SIGKILL, in the middle of what it does, and starts after them.

#![allow(clippy::unwrap_used, reason = "in a test, the panic is the report")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

mod support;

use support::s3::Client;
use support::{Server, data_directory};

/// Kills and restarts in a row.
const KILLS: u64 = 20;

/// Clients that write at a time.
const WRITERS: u64 = 4;

/// Lengths of bodies: nothing, inline, the longest inline, one chunk, two.
const LENGTHS: [usize; 7] = [0, 1, 5_000, 16_384, 16_385, 300_000, 1_200_000];

/// What one writer has done until the kill.
#[derive(Default)]
struct Written {
    /// Puts of keys of their own, and whether each was acknowledged.
    puts: BTreeMap<String, bool>,
    /// The number that the writer's one key was overwritten with last and acknowledged, and the
    /// last that was tried.
    overwritten: (u64, u64),
}

/// What the writers and whoever kills tell each other.
#[derive(Default)]
struct Kill {
    /// Set before the signal is sent: what fails before that, fails while the server lives.
    begun: AtomicBool,
    /// Puts in this round.
    acknowledged: AtomicU64,
}

#[test]
fn twenty_kills_lose_nothing_that_was_acknowledged() {
    let (_directory, data) = data_directory();
    let mut server = Server::start(&data);
    let (key, cluster) = (server.told("secret key"), fs::read(data.join("cluster.toml")).unwrap());
    assert_eq!(server.client().request("PUT", "/crash", b"").unwrap().status, 200);
    let mut puts: BTreeMap<String, bool> = BTreeMap::new();
    // Where each writer's overwritten key stood at the end of the last round.
    let mut stands = vec![0; usize::try_from(WRITERS).unwrap()];
    for round in 0..KILLS {
        let kill = Kill::default();
        let done: Vec<Written> = thread::scope(|scope| {
            let (server_now, kill, stands) = (&server, &kill, &stands);
            let write = |writer| {
                let client = server_now.client();
                let stand = stands[usize::try_from(writer).unwrap()];
                scope.spawn(move || write_until(kill, client, round, writer, stand))
            };
            let writers: Vec<_> = (0..WRITERS).map(write).collect();
            // Somewhere else in the course of things each time; but each round has two.
            thread::sleep(Duration::from_millis(100 + round * 37 % 150));
            while kill.acknowledged.load(Ordering::SeqCst) < 2 && !writers[0].is_finished() {
                thread::sleep(Duration::from_millis(1));
            }
            kill.begun.store(true, Ordering::SeqCst);
            server_now.signal("KILL");
            writers.into_iter().map(|writer| writer.join().unwrap()).collect()
        });
        server.wait();
        server = Server::start(&data);
        assert_eq!(server.told("secret key"), key);
        assert_eq!(fs::read(data.join("cluster.toml")).unwrap(), cluster);
        let mut client = server.client();
        for (writer, written) in (0..WRITERS).zip(&done) {
            verify(&mut client, &written.puts);
            let stand = overwritten(&mut client, writer);
            let (acknowledged, tried) = written.overwritten;
            assert!(
                (acknowledged..=tried).contains(&stand),
                "round {round}: {stand} is there; {acknowledged} was acknowledged, {tried} tried"
            );
            stands[usize::try_from(writer).unwrap()] = stand;
        }
        puts.extend(done.into_iter().flat_map(|written| written.puts));
    }
    let acknowledged = puts.values().filter(|acknowledged| **acknowledged).count();
    assert!(acknowledged > usize::try_from(KILLS).unwrap(), "only {acknowledged} puts went well");
    let mut client = server.client();
    verify(&mut client, &puts);
    verify_listing(&mut client, &puts);
}

#[test]
fn a_process_killed_in_its_first_start_starts_again() {
    for millis in [0, 1, 2, 4, 8, 16, 32, 64] {
        let (_directory, data) = data_directory();
        let mut command = support::trine(&data, "127.0.0.1:0");
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let mut child = command.spawn().unwrap();
        thread::sleep(Duration::from_millis(millis));
        child.kill().unwrap();
        child.wait().unwrap();
        let server = Server::start(&data);
        TcpStream::connect(server.address()).unwrap();
    }
}

/// Put new keys, and overwrite one, until the server is dead.
fn write_until(kill: &Kill, mut client: Client, round: u64, writer: u64, stand: u64) -> Written {
    let mut written = Written { puts: BTreeMap::new(), overwritten: (stand, stand) };
    for number in 0.. {
        let key = format!("{round}-{writer}-{number}");
        let put = client.request("PUT", &format!("/crash/{key}"), &body(&key));
        let well = put.as_ref().is_ok_and(|response| response.status == 200);
        written.puts.insert(key, well);
        if well {
            kill.acknowledged.fetch_add(1, Ordering::SeqCst);
            let (_, tried) = &mut written.overwritten;
            *tried += 1;
            let value = *tried;
            let target = format!("/crash/overwritten-{writer}");
            let put = client.request("PUT", &target, value.to_string().as_bytes());
            if put.is_ok_and(|response| response.status == 200) {
                written.overwritten.0 = value;
                continue;
            }
        }
        // Nothing but the kill is an excuse.
        assert!(kill.begun.load(Ordering::SeqCst), "a put failed while the server lived: {put:?}");
        break;
    }
    written
}

/// An acknowledged put is there with its bytes; another one is there with its bytes or not at all.
fn verify(client: &mut Client, puts: &BTreeMap<String, bool>) {
    for (key, acknowledged) in puts {
        let got = client.request("GET", &format!("/crash/{key}"), b"").unwrap();
        match got.status {
            200 => assert!(got.body == body(key), "{key} has other bytes"),
            404 => assert!(!acknowledged, "{key} is lost"),
            status => panic!("{key}: {status}"),
        }
    }
}

/// The listing has every acknowledged key, and none that was never put.
fn verify_listing(client: &mut Client, puts: &BTreeMap<String, bool>) {
    let mut listed = BTreeSet::new();
    let mut after = "0".to_owned();
    loop {
        let target = format!("/crash?list-type=2&start-after={after}");
        let page = client.request("GET", &target, b"").unwrap();
        let page = String::from_utf8(page.body).unwrap();
        let keys = page.split("<Key>").skip(1).map(|rest| rest.split('<').next().unwrap());
        let before = listed.len();
        listed.extend(keys.map(str::to_owned));
        let Some(last) = listed.last().filter(|_| listed.len() > before) else { break };
        after.clone_from(last);
    }
    listed.retain(|key| !key.starts_with("overwritten-"));
    for (key, acknowledged) in puts {
        assert!(listed.contains(key) || !acknowledged, "{key} is not listed");
    }
    assert!(listed.iter().all(|key| puts.contains_key(key)), "a key is listed that was never put");
}

/// What a writer's overwritten key holds; 0 if it is not there.
fn overwritten(client: &mut Client, writer: u64) -> u64 {
    let got = client.request("GET", &format!("/crash/overwritten-{writer}"), b"").unwrap();
    if got.status == 404 { 0 } else { String::from_utf8(got.body).unwrap().parse().unwrap() }
}

/// The body that belongs to a key.
fn body(key: &str) -> Vec<u8> {
    let number: usize = key.rsplit('-').next().unwrap().parse().unwrap();
    let length = LENGTHS[number % LENGTHS.len()];
    key.bytes().chain([b'\n']).cycle().take(length).collect()
}
