//! Settings from flags, environment and file, and what is said about wrong ones.

use super::*;

fn environment(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    pairs.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect()
}

fn resolve(cli: Cli, pairs: &[(&str, &str)]) -> Result<Config, String> {
    Config::resolve(cli, environment(pairs)).map_err(|error| error.to_string())
}

fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("trine.toml");
    std::fs::write(&path, text).unwrap();
    (directory, path)
}

#[test]
fn without_words_the_defaults_hold() {
    let config = resolve(Cli::default(), &[("PATH", "/bin"), ("TRINED", "x")]).unwrap();
    assert_eq!(config.listen, "127.0.0.1:9000".parse().unwrap());
    assert_eq!(config.data, PathBuf::from("./trine-data"));
    assert_eq!(config.region, "us-east-1");
    assert_eq!(config.root_key, None);
    assert_eq!(config.geometry, Geometry::PRODUCTION);
}

#[test]
fn flags_win_over_the_environment_which_wins_over_the_file() {
    let (_directory, path) = file("data = 'file'\nregion = 'file'\nlisten = '127.0.0.1:1'\n");
    let cli = Cli { config: Some(path), data: Some("flag".to_owned()), ..Cli::default() };
    let config = resolve(cli, &[("TRINE_DATA", "env"), ("TRINE_REGION", "env")]).unwrap();
    assert_eq!(config.data, PathBuf::from("flag"));
    assert_eq!(config.region, "env");
    assert_eq!(config.listen.port(), 1);
}

#[test]
fn the_environment_names_the_file_unless_a_flag_does() {
    let (_one, in_environment) = file("region = 'one'");
    let (_two, in_flag) = file("region = 'two'");
    let variables = [("TRINE_CONFIG", in_environment.to_str().unwrap())];
    assert_eq!(resolve(Cli::default(), &variables).unwrap().region, "one");
    let cli = Cli { config: Some(in_flag), ..Cli::default() };
    assert_eq!(resolve(cli, &variables).unwrap().region, "two");
}

#[test]
fn an_unknown_key_is_named_with_the_nearest_one() {
    let (_directory, path) = file("listne = '127.0.0.1:1'");
    let error = resolve(Cli { config: Some(path), ..Cli::default() }, &[]).unwrap_err();
    assert!(error.contains("trine.toml: listne is not known"), "{error}");
    assert!(error.contains("did you mean listen?"), "{error}");
}

#[test]
fn an_unknown_variable_is_named_with_the_nearest_one() {
    let error = resolve(Cli::default(), &[("TRINE_ROOT_ACCES_KEY", "x")]).unwrap_err();
    assert!(error.contains("environment variable TRINE_ROOT_ACCES_KEY is not known"), "{error}");
    assert!(error.contains("did you mean TRINE_ROOT_ACCESS_KEY?"), "{error}");
}

#[test]
fn a_key_that_is_like_no_other_gets_no_guess() {
    let (_directory, path) = file("zzzzzzzzzz = 'x'");
    let error = resolve(Cli { config: Some(path), ..Cli::default() }, &[]).unwrap_err();
    assert!(!error.contains("did you mean"), "{error}");
    assert!(error.contains("there are: listen, "), "{error}");
}

#[test]
fn an_invalid_value_is_named_with_its_place() {
    let error = resolve(Cli::default(), &[("TRINE_LISTEN", "9000")]).unwrap_err();
    assert!(error.contains("environment variable TRINE_LISTEN: \"9000\" is not valid"), "{error}");
    let cli = Cli { capacity: Some("10".to_owned()), ..Cli::default() };
    let error = resolve(cli, &[]).unwrap_err();
    assert!(error.contains("--capacity"), "{error}");
    // One disk has so many segments, and no more.
    let large = |text: &str| Cli { capacity: Some(text.to_owned()), ..Cli::default() };
    let geometry = resolve(large("64TiB"), &[]).unwrap().geometry;
    assert!(trine_core::storage::layout::is_sound(&geometry));
    assert!(resolve(large("65TiB"), &[]).unwrap_err().contains("to 64TiB"));
    let (_directory, path) = file("capacity = 10");
    let error = resolve(Cli { config: Some(path), ..Cli::default() }, &[]).unwrap_err();
    assert!(error.contains("trine.toml: capacity"), "{error}");
}

#[test]
fn a_file_that_is_missing_or_not_toml_is_named() {
    let missing = Cli { config: Some("/nowhere/trine.toml".into()), ..Cli::default() };
    let error = resolve(missing, &[]).unwrap_err();
    assert!(error.contains("/nowhere/trine.toml"), "{error}");
    let (_directory, path) = file("listen = ");
    let error = resolve(Cli { config: Some(path), ..Cli::default() }, &[]).unwrap_err();
    assert!(error.contains("is not TOML"), "{error}");
}

#[test]
fn an_address_that_others_reach_needs_the_explicit_word() {
    let open = Cli { listen: Some("0.0.0.0:9000".to_owned()), ..Cli::default() };
    let error = resolve(open.clone(), &[]).unwrap_err();
    assert!(error.contains("0.0.0.0:9000"), "{error}");
    assert!(error.contains("--insecure-listen"), "{error}");
    assert!(resolve(open.clone(), &[("TRINE_INSECURE_LISTEN", "true")]).is_ok());
    assert!(resolve(open.clone(), &[("TRINE_INSECURE_LISTEN", "false")]).is_err());
    assert!(resolve(Cli { insecure_listen: true, ..open }, &[]).is_ok());
    let six = Cli { listen: Some("[::1]:9000".to_owned()), ..Cli::default() };
    assert!(resolve(six, &[]).is_ok());
    let (_directory, path) = file("listen = '0.0.0.0:1'\ninsecure_listen = true");
    assert!(resolve(Cli { config: Some(path), ..Cli::default() }, &[]).is_ok());
}

#[test]
fn half_a_key_pair_is_refused_and_a_bad_secret_is_not_shown() {
    let error = resolve(Cli::default(), &[("TRINE_ROOT_ACCESS_KEY", "root")]).unwrap_err();
    assert!(error.contains("TRINE_ROOT_ACCESS_KEY is only half"), "{error}");
    let pair = [("TRINE_ROOT_ACCESS_KEY", "root"), ("TRINE_ROOT_SECRET_KEY", "hunter2")];
    let error = resolve(Cli::default(), &pair).unwrap_err();
    assert!(error.contains("TRINE_ROOT_SECRET_KEY"), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn a_secret_in_a_file_that_is_not_toml_is_not_shown() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "listen = \"127.0.0.1:0\"\nroot_secret_key = hunter2\n").unwrap();
    let cli = Cli { config: Some(file.path().to_owned()), ..Cli::default() };
    let error = resolve(cli, &[]).unwrap_err();
    assert!(error.contains("line 2"), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn a_key_pair_is_taken_and_its_debug_form_hides_the_secret() {
    let pair = [("TRINE_ROOT_ACCESS_KEY", "root"), ("TRINE_ROOT_SECRET_KEY", "hunter22")];
    let config = resolve(Cli::default(), &pair).unwrap();
    assert!(!format!("{config:?}").contains("hunter22"));
    let key = config.root_key.unwrap();
    assert_eq!((key.access.as_str(), key.secret.as_str()), ("root", "hunter22"));
}

#[test]
fn a_small_capacity_has_a_journal_in_proportion() {
    let cli = Cli { capacity: Some("1GiB".to_owned()), ..Cli::default() };
    let geometry = resolve(cli, &[]).unwrap().geometry;
    assert_eq!(geometry.capacity, 1 << 30);
    assert_eq!(geometry.journal, 256 << 20);
    let cli = Cli { capacity: Some("1023MiB".to_owned()), ..Cli::default() };
    assert!(resolve(cli, &[]).is_err());
}

#[test]
fn limits_depend_on_the_way_of_running_and_can_be_set() {
    let config = resolve(Cli::default(), &[]).unwrap();
    assert_eq!(config.limits, Limits::ALL_IN_ONE);
    let (_directory, path) = file("body_budget = '1GiB'\nmemtable = '4MiB'\nrequests_max = '99'\n");
    let cli = Cli { config: Some(path), ..Cli::default() };
    let limits = resolve(cli, &[("TRINE_BLOCK_CACHE", "2MiB")]).unwrap().limits;
    assert_eq!((limits.body_budget_bytes, limits.requests_max), (1 << 30, 99));
    assert_eq!((limits.stores.memtable_bytes, limits.stores.block_cache_bytes), (4 << 20, 2 << 20));
    for (name, value) in [
        ("TRINE_BODY_BUDGET", "1MiB"),
        ("TRINE_MEMTABLE", "1GiB"),
        ("TRINE_CONNECTIONS_MAX", "0"),
        ("TRINE_CHUNK_BUDGET", "8"),
    ] {
        let error = resolve(Cli::default(), &[(name, value)]).unwrap_err();
        assert!(error.contains(name), "{error}");
    }
}

#[test]
fn made_keys_are_valid_and_new_each_time() {
    let runtime = crate::runtime::tokio::TokioRuntime::new();
    let one = RootKey::generate(&runtime).unwrap();
    assert!(RootKey::is_access_key(&one.access) && RootKey::is_secret_key(&one.secret));
    assert_eq!((one.access.len(), one.secret.len()), (20, 40));
    assert_ne!(one, RootKey::generate(&runtime).unwrap());
}

#[test]
fn the_command_line_is_well_formed() {
    use clap::CommandFactory;
    Arguments::command().debug_assert();
}

#[test]
fn tls_comes_from_files_or_from_a_private_ca() {
    assert_eq!(resolve(Cli::default(), &[]).unwrap().tls, None);
    let (_directory, path) = file("data = 'x'\ntls_cert = 'c'\ntls_key = 'k'\n");
    let config = resolve(Cli { config: Some(path), ..Cli::default() }, &[]).unwrap();
    let files = TlsSource::Files { certificates: "c".into(), key: "k".into() };
    assert_eq!(config.tls, Some(files));
    let ca = |directory: &str, names: &[&str]| {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Some(TlsSource::PrivateCa { directory: directory.into(), names })
    };
    let config = resolve(Cli::default(), &[("TRINE_TLS", "true"), ("TRINE_DATA", "x")]).unwrap();
    assert_eq!(config.tls, ca("x/tls", &[]));
    let tls = TlsCli {
        tls: true,
        tls_directory: Some("ca".to_owned()),
        tls_names: Some("s3.example.com, *.s3.example.com,10.0.0.1,fe80::1".to_owned()),
        ..TlsCli::default()
    };
    // Whom it speaks to does not matter then.
    let cli = Cli { tls, listen: Some("0.0.0.0:1".to_owned()), ..Cli::default() };
    let names = ["s3.example.com", "*.s3.example.com", "10.0.0.1", "fe80::1"];
    assert_eq!(resolve(cli, &[]).unwrap().tls, ca("ca", &names));
    // And it knows the domains of buckets.
    let cli = Cli { domains: Some("S3.example.com, s3.lan".to_owned()), ..Cli::default() };
    let config = resolve(cli, &[("TRINE_TLS", "true"), ("TRINE_DATA", "x")]).unwrap();
    let names = ["s3.example.com", "*.s3.example.com", "s3.lan", "*.s3.lan"];
    assert_eq!(config.tls, ca("x/tls", &names));
}

#[test]
fn base_domains_are_host_names() {
    assert_eq!(resolve(Cli::default(), &[]).unwrap().domains.names().count(), 0);
    for text in ["", "a b", "s3.example.com:9000", "a,a", "a.b,b", "a,,b"] {
        let error = resolve(Cli::default(), &[("TRINE_DOMAINS", text)]).unwrap_err();
        assert!(error.contains("TRINE_DOMAINS"), "{error}");
    }
}

#[test]
fn half_of_tls_and_two_kinds_of_it_are_refused() {
    let file = Some("f".to_owned());
    let key = TlsCli { tls_key: file.clone(), ..TlsCli::default() };
    let certificate = TlsCli { tls_cert: file.clone(), ..TlsCli::default() };
    let both = TlsCli { tls_cert: file.clone(), ..key.clone() };
    let names = |text: &str| TlsCli { tls_names: Some(text.to_owned()), ..TlsCli::default() };
    for (tls, says) in [
        (key.clone(), "--tls-key is only half of what TLS needs"),
        (certificate, "--tls-cert is only half of what TLS needs"),
        (TlsCli { tls: true, ..key }, "--tls-key: a certificate comes either"),
        (TlsCli { tls_directory: file.clone(), ..both.clone() }, "--tls-directory: a certificate"),
        (TlsCli { tls: true, ..both.clone() }, "--tls-cert: a certificate comes either"),
        (TlsCli { tls_cert: Some(String::new()), ..both }, "--tls-cert: \"\" is not valid"),
        (names("a"), "--tls-names is of the private CA, which is not wanted"),
        (TlsCli { tls: true, ..names("") }, "--tls-names: \"\" is not valid"),
        (TlsCli { tls: true, ..names("a,,b") }, "--tls-names: \"a,,b\" is not valid"),
        (TlsCli { tls: true, ..names("https://a") }, "--tls-names: \"https://a\" is not valid"),
        (TlsCli { tls_directory: file, ..TlsCli::default() }, "--tls-directory is of the private"),
    ] {
        let error = resolve(Cli { tls, ..Cli::default() }, &[]).unwrap_err();
        assert!(error.contains(says), "{error}");
    }
}
