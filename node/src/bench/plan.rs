//! What is to be measured, checked: only these types travel on.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::cli::{AccountCli, Checksum, ClientCli, LoadCli, WorkCli};
use super::client::endpoint::Endpoint;
use super::client::sign::Credentials;
use super::client::{PayloadMode, Target};
use super::error::BenchError;
use super::size::{SizeSpec, parse_duration};
use super::workload::{KeyOrder, Mix, Operation, Spread};

/// More than a machine has ports for.
const CONCURRENCY_MAX: usize = 10_000;
const THREADS_MAX: usize = 256;
/// The limits of S3, for objects, one PUT, and uploads in parts.
const PUT_BYTES_MAX: u64 = 5 << 30;
const PART_BYTES_MIN: u64 = 5 << 20;
const PARTS_MAX: u64 = 10_000;
const PAGE_MAX: u32 = 1000;

/// Where the environment's variables come from: a test has its own.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// One measurement.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    pub(crate) operation: Operation,
    pub(crate) sizes: SizeSpec,
    pub(crate) concurrency: usize,
    pub(crate) work: Arc<Work>,
}

/// How keys are chosen, and what belongs to single operations.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    pub(crate) keys: Option<u64>,
    pub(crate) spread: Option<Spread>,
    pub(crate) zipf_exponent: f64,
    pub(crate) order: KeyOrder,
    pub(crate) page: u32,
    pub(crate) part_bytes: u64,
    pub(crate) part_parallel: usize,
    pub(crate) mix: Mix,
    pub(crate) prepare: bool,
}

/// When something ends: whichever comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limit {
    pub(crate) time: Option<Duration>,
    pub(crate) operations: Option<u64>,
}

/// What all measurements of a command have in common.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) limit: Limit,
    pub(crate) warm_up: Duration,
    pub(crate) verify: bool,
    pub(crate) retry_slow_down: bool,
    pub(crate) seed: u64,
    pub(crate) prefix: String,
    pub(crate) keep: bool,
    pub(crate) create_bucket: bool,
    pub(crate) threads: usize,
    pub(crate) server_pids: Vec<u32>,
    pub(crate) json: Option<PathBuf>,
}

impl Work {
    /// # Errors
    /// [`BenchError::Option`].
    pub(crate) fn check(cli: &WorkCli) -> Result<Self, BenchError> {
        let wrong = |text: &str| Err(BenchError::Option(text.to_owned()));
        if cli.keys == Some(0) {
            return wrong("--keys: at least 1");
        }
        if !(cli.zipf_exponent > 0.0 && cli.zipf_exponent <= 10.0) {
            return wrong("--zipf-exponent: above 0, and at most 10");
        }
        if !(1..=PAGE_MAX).contains(&cli.page) {
            return wrong("--page: from 1 to 1000");
        }
        if !(PART_BYTES_MIN..=PUT_BYTES_MAX).contains(&cli.part_size.0) {
            return wrong("--part-size: from 5MiB to 5GiB, as S3 has it");
        }
        if !(1..=256).contains(&cli.part_parallel) {
            return wrong("--part-parallel: from 1 to 256");
        }
        Ok(Self {
            keys: cli.keys,
            spread: cli.spread,
            zipf_exponent: cli.zipf_exponent,
            order: cli.key_order,
            page: cli.page,
            part_bytes: cli.part_size.0,
            part_parallel: cli.part_parallel,
            mix: Mix::parse(&cli.mix).map_err(BenchError::Option)?,
            prepare: !cli.no_prepare,
        })
    }
}

/// All combinations of operations, sizes and concurrencies, in this order.
///
/// # Errors
/// [`BenchError::Option`].
pub(crate) fn cells(
    operations: &[Operation],
    sizes: &[SizeSpec],
    concurrency: &[usize],
    work: &Work,
) -> Result<Vec<Cell>, BenchError> {
    let work = Arc::new(work.clone());
    let mut cells = Vec::new();
    for operation in operations {
        // The sizes of objects that are listed make no difference.
        let count = if *operation == Operation::List { 1 } else { sizes.len() };
        for sizes in &sizes[..count.min(sizes.len())] {
            check_size(*operation, sizes, &work)?;
            for concurrency in concurrency {
                cells.push(Cell {
                    operation: *operation,
                    sizes: sizes.clone(),
                    concurrency: *concurrency,
                    work: Arc::clone(&work),
                });
            }
        }
    }
    Ok(cells)
}

fn check_size(operation: Operation, sizes: &SizeSpec, work: &Work) -> Result<(), BenchError> {
    let (limit, why) = match operation {
        Operation::Multipart => {
            (work.part_bytes.saturating_mul(PARTS_MAX), "10,000 parts of --part-size")
        }
        _ => (PUT_BYTES_MAX, "5 GiB, the limit of one PUT"),
    };
    if sizes.largest() > limit {
        return Err(BenchError::Option(format!("--size: {operation} of {sizes} is above {why}")));
    }
    if operation == Operation::Multipart && sizes.sizes().first() == Some(&0) {
        return Err(BenchError::Option(
            "--size: an upload in parts has at least 1 byte".to_owned(),
        ));
    }
    Ok(())
}

/// The concurrencies to measure.
///
/// # Errors
/// [`BenchError::Option`].
pub(crate) fn concurrencies(given: &[usize], default: &[usize]) -> Result<Vec<usize>, BenchError> {
    let chosen = if given.is_empty() { default } else { given };
    match chosen.iter().find(|number| !(1..=CONCURRENCY_MAX).contains(*number)) {
        Some(_) => Err(BenchError::Option(format!("--concurrency: from 1 to {CONCURRENCY_MAX}"))),
        None => Ok(chosen.to_vec()),
    }
}

impl Settings {
    /// # Errors
    /// [`BenchError::Option`].
    pub(crate) fn of_load(cli: &LoadCli, create_bucket: bool) -> Result<Self, BenchError> {
        let time = |name: &str, text: &Option<String>| match text {
            None => Ok(None),
            Some(text) => {
                let time = parse_duration(text);
                time.map(Some).map_err(|what| BenchError::Option(format!("--{name}: {what}")))
            }
        };
        let mut duration = time("duration", &cli.duration)?;
        let warm_up = time("warm-up", &cli.warm_up)?;
        if duration == Some(Duration::ZERO) || cli.ops == Some(0) {
            return Err(BenchError::Option("--duration and --ops: above 0".to_owned()));
        }
        if cli.ops.is_none() {
            duration = duration.or(Some(Duration::from_secs(10)));
        }
        let mut settings = Self::of_client(&cli.client, create_bucket)?;
        let default = if cli.ops.is_some() { Duration::ZERO } else { Duration::from_secs(2) };
        settings.warm_up = warm_up.unwrap_or(default);
        settings.limit = Limit { time: duration, operations: cli.ops };
        Ok(settings)
    }

    /// Settings without limit and warm-up.
    ///
    /// # Errors
    /// [`BenchError::Option`].
    pub(crate) fn of_client(cli: &ClientCli, create_bucket: bool) -> Result<Self, BenchError> {
        if !(1..=THREADS_MAX).contains(&cli.threads) {
            return Err(BenchError::Option(format!("--threads: from 1 to {THREADS_MAX}")));
        }
        // Keys have up to 1024 bytes, and ours add less than 100.
        if cli.prefix.len() > 900 || cli.prefix.starts_with('/') {
            let what = "--prefix: at most 900 bytes, and no slash at its begin";
            return Err(BenchError::Option(what.to_owned()));
        }
        Ok(Self {
            limit: Limit::default(),
            warm_up: Duration::ZERO,
            verify: cli.verify,
            retry_slow_down: cli.retry_slow_down,
            seed: cli.seed,
            prefix: cli.prefix.clone(),
            keep: cli.keep,
            create_bucket,
            threads: cli.threads,
            server_pids: cli.server_pid.clone(),
            json: cli.json.clone(),
        })
    }
}

/// Where requests go to.
///
/// # Errors
/// [`BenchError::Option`].
pub(crate) fn target(
    endpoint: Option<&str>,
    account: &AccountCli,
    client: &ClientCli,
    environment: Environment<'_>,
) -> Result<Target, BenchError> {
    let given = |flag: &Option<String>, variables: &[&str]| {
        let variable = || variables.iter().find_map(|name| environment(name));
        flag.clone().or_else(variable).filter(|text| !text.is_empty())
    };
    let missing = |flag: &str, variable: &str| {
        BenchError::Option(format!("no {flag}: give it by --{flag}, or set {variable}"))
    };
    let endpoint = given(&endpoint.map(str::to_owned), &["AWS_ENDPOINT_URL"]);
    let endpoint = endpoint.as_deref().unwrap_or("http://127.0.0.1:9000");
    let access = given(&account.access_key, &["AWS_ACCESS_KEY_ID"]);
    let secret = given(&account.secret_key, &["AWS_SECRET_ACCESS_KEY"]);
    let region = given(&account.region, &["AWS_REGION", "AWS_DEFAULT_REGION"]);
    let credentials = Credentials {
        access: access.ok_or_else(|| missing("access-key", "AWS_ACCESS_KEY_ID"))?,
        secret: secret.ok_or_else(|| missing("secret-key", "AWS_SECRET_ACCESS_KEY"))?,
        region: region.unwrap_or_else(|| "us-east-1".to_owned()),
    };
    let fits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    if !fits(&credentials.access) || !fits(&credentials.region) {
        let what = "--access-key and --region: letters, digits and signs, without spaces";
        return Err(BenchError::Option(what.to_owned()));
    }
    let bucket_fits =
        |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'A'..=b'Z');
    let bucket = account.bucket.clone();
    if !(3..=63).contains(&bucket.len()) || !bucket.bytes().all(bucket_fits) {
        let what = format!("--bucket {bucket:?}: 3 to 63 letters, digits, dots and hyphens");
        return Err(BenchError::Option(what));
    }
    let patience = parse_duration(&client.timeout);
    let patience = patience.map_err(|what| BenchError::Option(format!("--timeout: {what}")))?;
    if patience.is_zero() {
        return Err(BenchError::Option("--timeout: above 0".to_owned()));
    }
    let checksum = client.checksum == Checksum::Crc32;
    if client.payload == PayloadMode::StreamingUnsigned && !checksum {
        let what = "--payload streaming-unsigned: its trailer is the checksum, which is off";
        return Err(BenchError::Option(what.to_owned()));
    }
    let ca = given(&account.ca_bundle, &["AWS_CA_BUNDLE"]).map(PathBuf::from);
    let endpoint = Endpoint::resolve(endpoint, ca.as_deref()).map_err(BenchError::Option)?;
    Ok(Target { endpoint, credentials, bucket, payload: client.payload, checksum, patience })
}
