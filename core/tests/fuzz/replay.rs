//! Replays the corpora of a crate's `fuzz/` folder, and so many random changes of each input. Used by core's
//! targets and by those of s3; `PROPTEST_CASES` asks for more changes.

#![allow(clippy::disallowed_types, reason = "one measurement of memory at a time: a Mutex")]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Mutex;

use trine_core::rng::Rng;

use super::targets::Target;

/// Changes of each input, unless the environment asks for more.
const CHANGES: u64 = 16;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn folder(target: &Target) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target.name)
}

fn corpus(target: &Target) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(folder(target))
        .expect("each target has a corpus")
        .map(|entry| entry.expect("a file of the corpus").path())
        .map(|path| (path.display().to_string(), fs::read(&path).expect("it can be read")))
        .collect();
    files.sort();
    assert!(files.len() >= 4, "{}: a corpus of {} inputs", target.name, files.len());
    files
}

/// As a fuzzer without coverage would.
fn change(bytes: &mut Vec<u8>, rng: &mut Rng) {
    let mut pick =
        |bound: usize| usize::try_from(rng.below(bound.max(1) as u64)).expect("below a usize");
    for _ in 0..=pick(4) {
        let at = pick(bytes.len());
        match pick(7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << pick(8),
            1 if at < bytes.len() => bytes[at] = u8::try_from(pick(256)).expect("a byte"),
            2 => bytes.truncate(at),
            3 => bytes.insert(at, u8::try_from(pick(256)).expect("a byte")),
            4 => {
                let end = bytes.len().min(at + pick(16));
                drop(bytes.drain(at..end));
            }
            5 => {
                let end = bytes.len().min(at + pick(32));
                let copy = bytes[at..end].to_vec();
                bytes.splice(at..at, copy);
            }
            _ => {
                let end = bytes.len().min(at + 8);
                bytes[at..end].fill([0, 0xff, 0x7f, 0x80][pick(4)]);
            }
        }
    }
}

/// Run each input of a target's corpus, and changes of it.
pub(crate) fn replay(target: &Target) {
    let name = target.name;
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(|poison| poison.into_inner());
    let asked = std::env::var_os("PROPTEST_CASES");
    let asked = asked.and_then(|count| count.to_str()?.parse().ok());
    let (mut passed, mut ran) = (0, 0);
    for (file, input) in corpus(target) {
        let mut rng = Rng::new(0x5eed);
        let mut run = |input: &[u8], what: &str| {
            ran += 1;
            let outcome = catch_unwind(AssertUnwindSafe(|| target.measured(input)));
            let Ok(through) = outcome else {
                let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
                panic!("{name}: {what} {file} fails: {hex}");
            };
            passed += u64::from(through);
        };
        run(&input, "the input");
        for nth in 0..asked.unwrap_or(CHANGES) {
            let mut changed = input.clone();
            change(&mut changed, &mut rng);
            run(&changed, &format!("change {nth} of"));
        }
    }
    println!("{name}: {passed} of {ran} inputs passed the door");
    let percent = target.passing_percent_min;
    assert!(passed * 100 >= ran * percent, "{name}: {passed} of {ran} inputs passed the door");
}

/// Write what a fuzzer may begin from anew into `fuzz/seeds/TARGET`.
pub(crate) fn write_seeds(targets: &[Target]) {
    for target in targets {
        let folder = folder(target).join("../../seeds").join(target.name);
        fs::create_dir_all(&folder).expect("a folder");
        for (nth, seed) in (target.seeds)().into_iter().enumerate() {
            fs::write(folder.join(format!("{nth:03}")), seed).expect("a file");
        }
    }
}
