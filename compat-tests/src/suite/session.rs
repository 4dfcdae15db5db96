//! One client's run: its server, its folder, the commands it gives and all that they print.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::Client;
use crate::liar::{Liar, Lie};
use crate::server::{Server, Transport};
use crate::tree;

/// After this a command hangs. (How fast things are is measured elsewhere.)
const HANGS_AFTER: Duration = Duration::from_secs(600);
/// Of each stream of each command, this much is kept for who reads of a failure.
const SHOWN_BYTES: usize = 20_000;

/// What a scenario works with.
#[derive(Debug)]
pub struct Session {
    /// A `trine` with three zones, and nothing in it at the start.
    pub server: Server,
    /// A folder of its own.
    pub folder: PathBuf,
    kit: PathBuf,
    /// What stands before the server, if it is to be lied to.
    liar: Option<Liar>,
    said: RefCell<String>,
}

/// What a command came to.
#[derive(Debug)]
struct Done {
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Session {
    pub(super) fn start(client: Client, transport: Transport, lie: Option<Lie>) -> Self {
        let folder = crate::scratch(&format!("{}-{}", client.name, transport.scheme()));
        let mut server = Server::start_with(&folder.join("data"), transport);
        let liar = lie.map(|lie| {
            let target = server.host().parse().expect("our server has an address of numbers");
            Liar::start(target, lie).expect("loopback has a free port")
        });
        if let Some(liar) = &liar {
            server.move_behind(liar.address());
        }
        let files = folder.join("files");
        fs::create_dir_all(files.join("home")).expect("target/ is writable");
        Self { server, folder: files, kit: client.kit.folder(), liar, said: RefCell::default() }
    }

    /// Whether the server speaks TLS.
    pub fn tls(&self) -> bool {
        self.server.transport() == Transport::Tls
    }

    /// The CA's certificate as an argument, if the server speaks TLS.
    pub fn ca(&self) -> Option<String> {
        self.server.ca().map(|path| text(&path))
    }

    /// A file of the client's kit.
    pub fn kit(&self, file: &str) -> PathBuf {
        self.kit.join(file)
    }

    /// A path in the session's folder, as text.
    pub fn path(&self, name: &str) -> String {
        text(&self.folder.join(name))
    }

    /// A file in the session's folder, with `len` bytes that follow from `seed`.
    pub fn file(&self, name: &str, len: u64, seed: u64) -> String {
        let path = self.folder.join(name);
        fs::create_dir_all(path.parent().expect("it is in our folder")).expect("ours");
        let mut state = seed;
        fs::write(&path, tree::bytes(&mut state, len)).expect("our folder is writable");
        text(&path)
    }

    /// A command in the session's folder, with credentials in its environment and nothing of ours: no
    /// configuration of who runs this, no proxy, no CA.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder.join("home"))
            .env("LC_ALL", "C.UTF-8")
            .env("AWS_ACCESS_KEY_ID", self.server.access_key())
            .env("AWS_SECRET_ACCESS_KEY", self.server.secret_key())
            .env("AWS_DEFAULT_REGION", "us-east-1")
            .env("AWS_REGION", "us-east-1")
            // Failures are to be seen, not retried away.
            .env("AWS_MAX_ATTEMPTS", "1")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .current_dir(&self.folder);
        command
    }

    /// Run it; it must succeed. Returns what it printed.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn run(&self, command: Command) -> String {
        text_of(&self.bytes(command))
    }

    /// [`Self::run`], with what it told on its standard error too.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn said_by(&self, command: Command) -> String {
        let done = self.ran(command, None);
        assert!(done.status.success(), "it failed with {}", done.status);
        text_of(&done.stdout) + &text_of(&done.stderr)
    }

    /// [`Self::run`], for output that is no text.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn bytes(&self, command: Command) -> Vec<u8> {
        let done = self.ran(command, None);
        assert!(done.status.success(), "it failed with {}", done.status);
        done.stdout
    }

    /// [`Self::run`] with a file as its input.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn fed(&self, command: Command, input: &str) -> String {
        let done = self.ran(command, Some(input));
        assert!(done.status.success(), "it failed with {}", done.status);
        text_of(&done.stdout)
    }

    /// Run it; it must fail, and say `why`. Returns all it printed.
    ///
    /// # Panics
    /// If it succeeds, or fails with other words.
    #[track_caller]
    pub fn refused(&self, command: Command, why: &str) -> String {
        let done = self.ran(command, None);
        assert!(!done.status.success(), "it should have failed with {why:?}");
        let told = text_of(&done.stdout) + &text_of(&done.stderr);
        assert!(told.contains(why), "it failed, but not with {why:?}");
        told
    }

    /// Write down what the scenario has found.
    pub fn note(&self, words: &str) {
        let mut said = self.said.borrow_mut();
        writeln!(said, "{words}").expect("a string grows");
    }

    /// An object's headers as curl gets them, names in lower case: what is stored, whatever the client
    /// that stored it believes.
    ///
    /// # Panics
    /// If there is no such object.
    #[track_caller]
    pub fn head(&self, object: &str) -> BTreeMap<String, String> {
        let mut curl = self.curl(object);
        curl.arg("--head");
        let told = self.run(curl);
        let lines = told.lines().filter_map(|line| line.split_once(':'));
        lines.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect()
    }

    /// SHA-256 of an object as curl gets it.
    ///
    /// # Panics
    /// If there is no such object.
    #[track_caller]
    pub fn sha256(&self, object: &str) -> String {
        tree::hex(&Sha256::digest(self.bytes(self.curl(object))))
    }

    /// Make a bucket, for clients that cannot.
    ///
    /// # Panics
    /// If it cannot be made.
    #[track_caller]
    pub fn make_bucket(&self, name: &str) {
        let mut curl = self.curl(name);
        curl.args(["--request", "PUT"]);
        self.run(curl);
    }

    /// curl for `bucket/key`, signed, failing when the answer is an error.
    pub fn curl(&self, path: &str) -> Command {
        let mut curl = self.plain_curl();
        let keys = format!("{}:{}", self.server.access_key(), self.server.secret_key());
        curl.args(["--aws-sigv4", "aws:amz:us-east-1:s3", "--user", &keys]);
        curl.arg(format!("{}/{}", self.server.endpoint(), encoded(path)));
        curl
    }

    /// curl that trusts the server's CA, for a URL that says who asks.
    pub fn plain_curl(&self) -> Command {
        let mut curl = self.command("curl");
        curl.args(["--silent", "--show-error", "--fail-with-body", "--globoff"]);
        if let Some(ca) = self.ca() {
            curl.args(["--cacert", &ca]);
        }
        curl
    }

    /// How much was changed on the way to the client.
    pub(super) fn lies(&self) -> u64 {
        self.liar.as_ref().map_or(0, Liar::lies)
    }

    /// All commands so far and what they printed.
    pub(super) fn transcript(&self) -> String {
        self.said.borrow().clone()
    }

    /// What the server should not have logged: panics and errors.
    pub(super) fn complaints(&self) -> Vec<String> {
        let log = self.server.log();
        let complaint = |line: &&str| line.contains(" ERROR ") || line.contains("panicked");
        let complaints: Vec<String> = log.lines().filter(complaint).map(str::to_owned).collect();
        if !complaints.is_empty() {
            self.note(&format!("the server logged errors:\n{}", complaints.join("\n")));
        }
        complaints
    }

    /// Stop the server and remove everything.
    pub(super) fn remove(self) {
        let folder = self.folder.parent().expect("it is in the scratch folder").to_owned();
        drop(self);
        fs::remove_dir_all(folder).expect("it is our folder");
    }

    fn ran(&self, mut command: Command, input: Option<&str>) -> Done {
        let (out, err) = (self.folder.join("home/out"), self.folder.join("home/err"));
        let file = |path: &Path| File::create(path).expect("our folder is writable");
        let input = input.map_or_else(Stdio::null, |path| {
            Stdio::from(File::open(path).expect("the input was made before"))
        });
        command.stdin(input).stdout(file(&out)).stderr(file(&err));
        self.note(&format!("$ {}", shown(&command)));
        let begun = Instant::now();
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let status = loop {
            if let Some(status) = child.try_wait().expect("our child can be asked") {
                break status;
            }
            if begun.elapsed() > HANGS_AFTER {
                // It may have ended just now.
                let _ = child.kill();
                break child.wait().expect("our child can be waited for");
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let read = |path: &Path| fs::read(path).expect("we made it");
        let done = Done { status, stdout: read(&out), stderr: read(&err) };
        for stream in [&done.stdout, &done.stderr] {
            let shown = &stream[..stream.len().min(SHOWN_BYTES)];
            match std::str::from_utf8(stream) {
                Ok("") => {}
                Ok(_) => self.note(text_of(shown).trim_end()),
                Err(_) => self.note(&format!("{} bytes that are no text", stream.len())),
            }
        }
        self.note(&format!("({}, {:.1?})", done.status, begun.elapsed()));
        assert!(begun.elapsed() <= HANGS_AFTER, "it was killed after {HANGS_AFTER:?}");
        done
    }
}

/// The command line, with what its environment has beside the usual.
fn shown(command: &Command) -> String {
    let usual = ["PATH", "HOME", "LC_ALL", "AWS_MAX_ATTEMPTS", "AWS_EC2_METADATA_DISABLED"];
    let mut words: Vec<String> = command
        .get_envs()
        .filter(|(name, _)| !usual.iter().any(|usual| name == usual))
        .filter_map(|(name, value)| {
            Some(format!("{}={}", name.to_string_lossy(), value?.to_string_lossy()))
        })
        .collect();
    words.push(command.get_program().to_string_lossy().into_owned());
    words.extend(command.get_args().map(|word| word.to_string_lossy().into_owned()));
    words.join(" ")
}

/// Percent-encoded, but for `/`.
fn encoded(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    path.bytes().fold(String::new(), |mut text, byte| {
        if plain(byte) {
            text.push(char::from(byte));
        } else {
            write!(text, "%{byte:02X}").expect("a string grows");
        }
        text
    })
}

fn text(path: &Path) -> String {
    path.to_str().expect("target/ has a path in UTF-8").to_owned()
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
