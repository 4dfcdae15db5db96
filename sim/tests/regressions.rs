//! Every seed that once failed is run for ever. Each file of `regressions/` holds a seed and the
//! story of what it found.

use std::path::Path;

use trine_sim::run::run_seed;

struct Regression {
    name: String,
    seed: u64,
    story: String,
}

fn parse(name: &str, text: &str) -> Result<Regression, String> {
    let mut seed = None;
    let mut story = String::new();
    for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        let (key, value) = line.split_once('=').ok_or_else(|| format!("{name}: {line:?}"))?;
        match key.trim() {
            "seed" => {
                let digits = value.trim().trim_start_matches("0x");
                let parsed = u64::from_str_radix(digits, 16);
                seed = Some(parsed.map_err(|error| format!("{name}: {error}"))?);
            }
            "story" => story = value.trim().trim_matches('"').to_owned(),
            other => return Err(format!("{name}: {other:?} is no field")),
        }
    }
    let seed = seed.ok_or_else(|| format!("{name}: no seed"))?;
    Ok(Regression { name: name.to_owned(), seed, story })
}

#[test]
fn seeds_that_once_failed_pass() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .expect("the folder stands in the repository")
        .map(|entry| entry.expect("it can be read").path())
        .collect();
    paths.sort();
    for path in paths {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(&path).expect("it can be read");
        let Regression { name, seed, story } = parse(&name, &text).expect("it is well formed");
        assert!(!story.is_empty(), "{name} tells no story");
        let report = run_seed(seed, None);
        assert_eq!(report.failure, None, "{name}: {story}; {}", report.replay_line());
    }
}
