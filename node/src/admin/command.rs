//! `trine admin …`: asks the process, and says what came of it.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::client::{Client, ClientError};
use super::schema::{
    Add, Added, AuditPage, ClusterStatus, Done, NodeJoin, NodeMove, Replace, Replaced,
};
use super::{socket, text};
use crate::config::{
    AdminCli, AdminCommand, CAPACITY_EXPECTED, LevelCommand, NodeCommand, StoreCommand,
    ZoneCommand, parse_capacity,
};

/// The exit code of an audit that found something.
const FOUND: u8 = 2;
/// Between two looks at the progress of a replacement.
const LOOK: Duration = Duration::from_millis(500);
/// What an audit's page that could not be had costs before it is asked for again.
const AUDIT_AGAIN: Duration = Duration::from_secs(1);
/// How often it is asked for.
const AUDIT_TRIES: u32 = 10;

/// Carry out a command line.
///
/// # Errors
/// [`CommandError`], for the operator.
pub async fn run(cli: AdminCli) -> Result<ExitCode, CommandError> {
    let client = Client::new(&path(&cli));
    match cli.command {
        AdminCommand::Status { json } => status(&client, json).await,
        AdminCommand::Zone(command) => zone(&client, command).await,
        AdminCommand::Store(command) => store(&client, command).await,
        AdminCommand::Node(command) => node(&client, command).await,
        AdminCommand::Level { command: None } => level(&client).await,
        AdminCommand::Level { command: Some(LevelCommand::Raise { level }) } => {
            let body = serde_json::json!({ "to": level });
            let done: Done = client.post("/v1/level/raise", &body).await?;
            print(&format!("{}\n", done.text));
            Ok(ExitCode::SUCCESS)
        }
        AdminCommand::Audit { json } => audit(&client, json).await,
    }
}

fn path(cli: &AdminCli) -> PathBuf {
    let in_environment = || std::env::var_os("TRINE_DATA").map(PathBuf::from);
    match &cli.socket {
        Some(path) => path.clone(),
        None => {
            let data = cli.data.clone().or_else(in_environment);
            data.unwrap_or_else(|| Path::new("trine-data").to_owned()).join(socket::NAME)
        }
    }
}

async fn status(client: &Client, json: bool) -> Result<ExitCode, CommandError> {
    let status: ClusterStatus = client.get("/v1/status").await?;
    if json {
        print_json(&status)
    } else {
        print(&text::status(&status))
    }
    Ok(ExitCode::SUCCESS)
}

async fn level(client: &Client) -> Result<ExitCode, CommandError> {
    let status: ClusterStatus = client.get("/v1/status").await?;
    print(&super::level::text(&status));
    Ok(ExitCode::SUCCESS)
}

async fn zone(client: &Client, command: ZoneCommand) -> Result<ExitCode, CommandError> {
    let done: Done = match command {
        ZoneCommand::Stop { zone, force } => {
            let body = serde_json::json!({ "zone": zone, "force": force });
            client.post("/v1/zone/stop", &body).await?
        }
        ZoneCommand::Start { zone } => {
            client.post("/v1/zone/start", &serde_json::json!({ "zone": zone })).await?
        }
    };
    print(&format!("{}\n", done.text));
    Ok(ExitCode::SUCCESS)
}

async fn node(client: &Client, command: NodeCommand) -> Result<ExitCode, CommandError> {
    let done: Done = match command {
        NodeCommand::Add { name, id, zone, peer, s3 } => {
            client.post("/v1/node/add", &NodeJoin { name, id, zone, peer, s3 }).await?
        }
        NodeCommand::Move { name, peer, s3 } => {
            client.post("/v1/node/move", &NodeMove { name, peer, s3 }).await?
        }
        NodeCommand::Remove { name } => {
            client.post("/v1/node/remove", &serde_json::json!({ "name": name })).await?
        }
    };
    print(&format!("{}\n", done.text));
    Ok(ExitCode::SUCCESS)
}

async fn store(client: &Client, command: StoreCommand) -> Result<ExitCode, CommandError> {
    let (text, wait) = match command {
        StoreCommand::Replace { old, new, node, path, wait, force } => {
            let old = store_id(&old)?;
            let new = new.as_deref().map(store_id).transpose()?;
            let replace = Replace { old, new, node, path: utf8(path)?, force, capacity: None };
            let replaced: Replaced = client.post("/v1/store/replace", &replace).await?;
            let text = format!(
                "store {} at node {} has the place of store {}, and is given what it should have",
                replaced.new, replaced.node, replaced.old
            );
            (text, wait)
        }
        StoreCommand::Add { node, weight, capacity, new, path, wait } => {
            let new = new.as_deref().map(store_id).transpose()?;
            let bytes = |text: String| parse_capacity(&text).ok_or(CommandError::NoCapacity(text));
            let capacity = capacity.map(bytes).transpose()?;
            let add = Add { node, new, path: utf8(path)?, weight, capacity };
            let added: Added = client.post("/v1/store/add", &add).await?;
            let text = format!(
                "store {} at node {} is added, and is given its share of the zone's data",
                added.new, added.node
            );
            (text, wait)
        }
        StoreCommand::Drain { store, wait } => (weigh(client, &store, 0).await?, wait),
        StoreCommand::Weight { store, weight, wait } => {
            (weigh(client, &store, weight).await?, wait)
        }
    };
    print(&format!("{text}\n"));
    if wait {
        wait_whole(client).await?;
        print("redundancy is full\n");
    }
    Ok(ExitCode::SUCCESS)
}

async fn weigh(client: &Client, store: &str, weight: u32) -> Result<String, CommandError> {
    let body = serde_json::json!({ "store": store_id(store)?, "weight": weight });
    let done: Done = client.post("/v1/store/weight", &body).await?;
    Ok(done.text)
}

/// A path as JSON has it.
fn utf8(path: Option<PathBuf>) -> Result<Option<String>, CommandError> {
    let text = |path: PathBuf| match path.to_str() {
        Some(text) => Ok(text.to_owned()),
        None => Err(CommandError::NotUtf8(path)),
    };
    path.map(text).transpose()
}

/// Show what is missing until nothing is.
async fn wait_whole(client: &Client) -> Result<(), CommandError> {
    let mut progress = Progress::new();
    loop {
        let status: ClusterStatus = client.get("/v1/status").await?;
        if status.redundancy.full {
            progress.end();
            return Ok(());
        }
        let first = status.redundancy.missing.first().map_or("", String::as_str);
        let more = status.redundancy.missing.len().saturating_sub(1);
        let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
        progress.show(&format!("{first}{more}"));
        tokio::time::sleep(LOOK).await;
    }
}

async fn audit(client: &Client, json: bool) -> Result<ExitCode, CommandError> {
    let mut total = AuditPage::default();
    let mut progress = Progress::new();
    let mut after: Option<String> = None;
    loop {
        let page = audit_page(client, after.as_ref()).await?;
        total.objects += page.objects;
        total.chunks += page.chunks;
        total.copies_good += page.copies_good;
        total.bad.extend(page.bad);
        total.unreachable.extend(page.unreachable);
        progress.show(&format!(
            "{} objects, {} chunks, {} copies good, {} bad",
            total.objects,
            total.chunks,
            total.copies_good,
            total.bad.len()
        ));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    progress.end();
    total.unreachable.sort_unstable();
    total.unreachable.dedup();
    if json {
        print_json(&total);
    } else {
        print(&audit_text(&total));
    }
    let clean = total.bad.is_empty() && total.unreachable.is_empty();
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::from(FOUND) })
}

/// A page, asked for again while the cluster does not answer: an audit of hours should not end with
/// an election.
async fn audit_page(client: &Client, after: Option<&String>) -> Result<AuditPage, CommandError> {
    let body = serde_json::json!({ "after": after });
    let mut tries = 1;
    loop {
        match client.post("/v1/audit", &body).await {
            Err(ClientError::Refused(_)) if tries < AUDIT_TRIES => tries += 1,
            result => return result.map_err(Into::into),
        }
        tokio::time::sleep(AUDIT_AGAIN).await;
    }
}

fn audit_text(total: &AuditPage) -> String {
    let mut text = String::new();
    for finding in &total.bad {
        text += &format!(
            "{}: chunk {} at store {}: {}\n",
            finding.key, finding.chunk, finding.store, finding.error
        );
    }
    if !total.unreachable.is_empty() {
        let stores: Vec<String> = total.unreachable.iter().map(u64::to_string).collect();
        text += &format!("not reached: stores {}\n", stores.join(", "));
    }
    let verdict = if !total.bad.is_empty() {
        "COPIES ARE MISSING OR WRONG"
    } else if !total.unreachable.is_empty() {
        "NOT ALL COPIES COULD BE READ"
    } else {
        "every copy is right"
    };
    text += &format!(
        "{verdict}: {} objects, {} chunks, {} copies good, {} bad\n",
        total.objects,
        total.chunks,
        total.copies_good,
        total.bad.len()
    );
    text
}

/// `7` or `store-7`.
fn store_id(text: &str) -> Result<u64, CommandError> {
    let number = text.strip_prefix("store-").unwrap_or(text);
    let id = number.parse::<u64>().ok().filter(|id| *id > 0);
    id.ok_or_else(|| CommandError::NoStore(text.to_owned()))
}

/// One line that is written over, on a terminal; a line now and then, elsewhere.
struct Progress {
    terminal: bool,
    shown: Option<(Instant, String)>,
}

/// Between two lines that are not written over.
const LINE_EVERY: Duration = Duration::from_secs(10);

impl Progress {
    fn new() -> Self {
        Self { terminal: io::stderr().is_terminal(), shown: None }
    }

    fn show(&mut self, text: &str) {
        let mut err = io::stderr().lock();
        // Standard error may be gone; then nobody watches.
        if self.terminal {
            let line: String = text.chars().take(100).collect();
            let _ = write!(err, "\r\x1b[K{line}").and_then(|()| err.flush());
        } else if self
            .shown
            .as_ref()
            .is_none_or(|(at, last)| at.elapsed() >= LINE_EVERY && last != text)
        {
            let _ = writeln!(err, "{text}");
        } else {
            return;
        }
        self.shown = Some((Instant::now(), text.to_owned()));
    }

    fn end(&self) {
        if self.terminal && self.shown.is_some() {
            let _ = write!(io::stderr().lock(), "\r\x1b[K");
        }
    }
}

fn print(text: &str) {
    let mut out = io::stdout().lock();
    // Standard output may be closed: then nobody reads it.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn print_json(value: &impl serde::Serialize) {
    let text = serde_json::to_string_pretty(value)
        .expect("plain structs with string keys have a JSON form");
    print(&format!("{text}\n"));
}

/// Why a command was not carried out, for the operator.
#[derive(Debug)]
pub enum CommandError {
    /// The process did not, or is not there.
    Client(ClientError),
    /// What was given as a store is none.
    NoStore(String),
    /// What was given as a capacity is none.
    NoCapacity(String),
    /// A path that JSON cannot carry.
    NotUtf8(PathBuf),
}

impl From<ClientError> for CommandError {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(error) => error.fmt(f),
            Self::NoStore(text) => {
                write!(f, "{text:?} is no store: give its number, such as 7 or store-7")
            }
            Self::NoCapacity(text) => {
                write!(f, "--capacity is {text:?}: {CAPACITY_EXPECTED}")
            }
            Self::NotUtf8(path) => write!(f, "{} is not valid UTF-8", path.display()),
        }
    }
}

impl std::error::Error for CommandError {}
