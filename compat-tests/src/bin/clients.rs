//! Real S3 clients, unmodified, against three zones over HTTP and over TLS.
//!
//! `cargo run --release -p trine-compat-tests --bin clients -- [NAME…] [--http | --tls] [--list]
//! [--allow-missing] [--planted]`. Fetches the clients into `target/clients`, runs each one's scenario against a
//! `trine` of its own, and prints a row for each. Ends with an error if one fails or cannot be had.
//! With `--planted` bits and words are changed in what the server answers, and each must notice.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use trine_compat_tests::fetch::Kit;
use trine_compat_tests::liar::Lie;
use trine_compat_tests::server::Transport;
use trine_compat_tests::suite::{self, CLIENTS, Client};

const USAGE: &str = "clients [NAME…] [--http | --tls] [--list] [--allow-missing] [--planted]";

/// What the command line asks for.
struct Asked {
    clients: Vec<Client>,
    transports: Vec<Transport>,
    list: bool,
    allow_missing: bool,
    planted: bool,
}

fn main() -> ExitCode {
    match asked(std::env::args().skip(1)) {
        Err(error) => {
            eprintln!("{error}\n{USAGE}");
            ExitCode::from(2)
        }
        Ok(asked) if asked.list => {
            for client in asked.clients {
                println!("{:14}{}", client.name, client.does);
            }
            ExitCode::SUCCESS
        }
        Ok(asked) => run(&asked),
    }
}

fn asked(arguments: impl Iterator<Item = String>) -> Result<Asked, String> {
    let mut asked = Asked {
        clients: Vec::new(),
        transports: vec![Transport::Http, Transport::Tls],
        list: false,
        allow_missing: false,
        planted: false,
    };
    for argument in arguments {
        match argument.as_str() {
            "--http" => asked.transports = vec![Transport::Http],
            "--tls" => asked.transports = vec![Transport::Tls],
            "--list" => asked.list = true,
            "--allow-missing" => asked.allow_missing = true,
            "--planted" => asked.planted = true,
            name => match CLIENTS.iter().find(|client| client.name == name) {
                Some(client) => asked.clients.push(*client),
                None => {
                    let names = CLIENTS.map(|client| client.name).join(", ");
                    return Err(format!("{name:?} is no client; there are {names}"));
                }
            },
        }
    }
    if asked.clients.is_empty() {
        asked.clients = CLIENTS.to_vec();
    }
    Ok(asked)
}

fn run(asked: &Asked) -> ExitCode {
    let begun = Instant::now();
    let mut kits: BTreeMap<Kit, Result<(), String>> = BTreeMap::new();
    for client in &asked.clients {
        kits.entry(client.kit).or_insert_with(|| client.kit.fetch().map(|_| ()));
    }
    // A client that was fetched and does not start could not be had either.
    let had: Vec<(Client, Result<String, String>)> = asked
        .clients
        .iter()
        .map(|client| (*client, kits[&client.kit].clone().and_then(|()| suite::version(*client))))
        .collect();
    println!("fetched and started in {}", seconds(begun.elapsed()));

    let widest = |words: &mut dyn Iterator<Item = usize>| words.max().unwrap_or_default();
    let name = widest(&mut asked.clients.iter().map(|client| client.name.len())).max(6);
    let version = had.iter().filter_map(|(_, version)| version.as_ref().ok());
    let version = widest(&mut version.map(String::len)).max(7);
    let does = widest(&mut asked.clients.iter().map(|client| client.does.chars().count()));
    let row = |cells: [&str; 6]| {
        let [client, came, over, did, result, took] = cells;
        println!("{client:name$}  {came:version$}  {over:5}  {did:does$}  {result:7}  {took:>7}");
    };
    row(["client", "version", "over", "what it did", "result", "seconds"]);

    let runs: Vec<Run> = if asked.planted {
        vec![Run::Planted(Lie::Bits), Run::Planted(Lie::Words)]
    } else {
        asked.transports.iter().copied().map(Run::Over).collect()
    };
    let (mut passed, mut failed, mut missing) = (0, 0, 0);
    for (client, version) in &had {
        for run in &runs {
            let Ok(version) = version else {
                missing += 1;
                row([client.name, "", run.name(), client.does, "MISSING", ""]);
                continue;
            };
            let (good, ran) = match run {
                Run::Over(transport) => ("passed", Some(suite::run(*client, *transport))),
                Run::Planted(lie) => ("noticed", suite::run_planted(*client, *lie)),
            };
            let Some(ran) = ran else {
                row([client.name, version, run.name(), client.does, "nothing", ""]);
                continue;
            };
            let result = if ran.failure.is_some() { "FAILED" } else { good };
            let took = seconds(ran.took);
            row([client.name, version, run.name(), client.does, result, &took]);
            match ran.failure {
                None => passed += 1,
                Some(told) => {
                    failed += 1;
                    eprintln!("=== {} over {}\n{told}\n===", client.name, run.name());
                }
            }
        }
        if let Err(why) = version {
            eprintln!("{} could not be had: {why}", client.name);
        }
    }
    let took = begun.elapsed().as_secs();
    println!("\n{} minutes {} seconds", took / 60, took % 60);
    println!("{passed} passed, {failed} failed, {missing} missing");
    if failed > 0 || (missing > 0 && !asked.allow_missing) {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// One row's circumstances.
#[derive(Clone, Copy)]
enum Run {
    Over(Transport),
    Planted(Lie),
}

impl Run {
    fn name(self) -> &'static str {
        match self {
            Self::Over(transport) => transport.scheme(),
            Self::Planted(Lie::Bits) => "bits",
            Self::Planted(Lie::Words) => "words",
        }
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64())
}
