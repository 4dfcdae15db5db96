//! `trine bench` against a running Trine: every operation, its JSON, its refusals. Nothing is timed.

#![allow(clippy::unwrap_used, reason = "in a test, the panic is the report")]

use std::process::{Command, Output};

use serde_json::Value;

mod support;

use support::{Server, binary, data_directory, output, refusal, taken_port, trine};

/// `trine bench` with a server's key pair, in a clean environment.
fn bench(server: &Server, arguments: &str) -> Command {
    let mut command = bare(arguments);
    command.env("AWS_ENDPOINT_URL", &server.endpoint);
    command.env("AWS_ACCESS_KEY_ID", server.told("access key"));
    command.env("AWS_SECRET_ACCESS_KEY", server.told("secret key"));
    command
}

fn bare(arguments: &str) -> Command {
    let mut command = Command::new(binary());
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("TRINE_") || name.starts_with("AWS_") {
            command.env_remove(name);
        }
    }
    command.arg("bench").args(arguments.split(' '));
    command
}

/// The JSON document on standard output of a command that must succeed.
fn document(command: Command) -> Value {
    let Output { status, stdout, stderr } = output(command);
    let errors = String::from_utf8_lossy(&stderr);
    assert_eq!(status.code(), Some(0), "{errors}");
    serde_json::from_slice(&stdout).unwrap_or_else(|error| panic!("{error}: {errors}"))
}

/// The row of this name.
fn row<'a>(result: &'a Value, name: &str) -> &'a Value {
    let rows = result["rows"].as_array().unwrap();
    rows.iter().find(|row| row["operation"] == name).unwrap_or_else(|| panic!("{result}"))
}

fn nothing_is_left(server: &Server) {
    let answer = server.client().request("GET", "/", b"").unwrap();
    let text = String::from_utf8(answer.body).unwrap();
    assert!(answer.status == 200 && !text.contains("<Name>"), "{text}");
}

#[test]
fn every_operation_is_measured_and_cleaned_up() {
    let (_directory, data) = data_directory();
    let server = Server::start(&data);
    let pid = server.id();
    let work = "--size 4KiB,1B..100KiB --keys 50 --verify --mix put=2,get=3,head=1,list=1,delete=1";
    let arguments = format!(
        "run put,get,head,list,delete,mixed --ops 40 --concurrency 1,4 --json - --page 7 \
         --server-pid {pid} --prefix x&<y>+z/ {work}"
    );
    let document = document(bench(&server, &arguments));
    assert_eq!(document["trine_bench"], 1);
    assert_eq!(document["target"]["endpoint"], server.endpoint);
    assert!(document["machine"]["cores"].as_u64().unwrap() > 0);
    let results = document["results"].as_array().unwrap();
    // Six operations, two sizes (one for list), two concurrencies.
    assert_eq!(results.len(), 22);
    for result in results {
        let name = result["operation"].as_str().unwrap();
        let total = row(result, if name == "mixed" { "total" } else { name });
        assert_eq!(total["operations"], 40, "{result}");
        assert_eq!((&total["failed"], &result["ended"]), (&0.into(), &"limit".into()), "{result}");
        assert!(result["http_requests"].as_u64().unwrap() >= 40);
        let latency = &total["latency_ms"];
        let of = |name: &str| latency[name].as_f64().unwrap();
        assert!(0.0 < of("min") && of("min") <= of("p50") && of("p50") <= of("p99"), "{latency}");
        assert!(of("p99") <= of("p999") && of("p999") <= of("max"), "{latency}");
        let seconds = result["series"].as_array().unwrap().iter();
        let sum: u64 = seconds.map(|second| second["operations"].as_u64().unwrap()).sum();
        assert_eq!(sum, 40);
        assert_eq!(result["servers"][0]["pid"], pid);
        assert!(result["servers"][0]["rss_peak_bytes"].as_u64().unwrap() > 0);
        if result["size"] == "4 KiB" && (name == "put" || name == "get") {
            assert_eq!(total["bytes"], 40 * 4096);
        }
    }
    nothing_is_left(&server);
}

#[test]
fn every_way_to_sign_a_body_is_taken_and_reads_back() {
    let (_directory, data) = data_directory();
    let server = Server::start(&data);
    for payload in ["signed", "unsigned", "streaming", "streaming-unsigned"] {
        for checksum in ["crc32", "none"] {
            if (payload, checksum) == ("streaming-unsigned", "none") {
                continue;
            }
            // Bodies of no chunk, of one, of one and a little, and of several.
            let arguments = format!(
                "run put,get --size 0,16,64KiB,65537,300KiB --ops 4 --keys 4 --concurrency 2 \
                 --verify --json - --payload {payload} --checksum {checksum}"
            );
            let document = document(bench(&server, &arguments));
            assert_eq!(document["target"]["payload"], payload);
            assert_eq!(document["results"].as_array().unwrap().len(), 10);
        }
    }
    nothing_is_left(&server);
}

#[test]
fn multipart_uploads_are_measured_with_their_parts() {
    let (_directory, data) = data_directory();
    let server = Server::start(&data);
    for payload in ["signed", "streaming"] {
        let arguments = format!(
            "run multipart --size 11MiB --part-size 5MiB --part-parallel 2 --ops 2 \
             --concurrency 2 --json - --payload {payload}"
        );
        let document = document(bench(&server, &arguments));
        let result = &document["results"][0];
        assert_eq!(row(result, "multipart")["operations"], 2);
        assert_eq!(row(result, "multipart")["bytes"], 22 << 20);
        assert_eq!(row(result, "part")["operations"], 6);
        // Each upload is created, has three parts, and is completed.
        assert_eq!(result["http_requests"], 10);
    }
    nothing_is_left(&server);
}

#[test]
fn what_is_kept_can_be_read_by_a_later_run_and_is_verified() {
    let (_directory, data) = data_directory();
    let server = Server::start(&data);
    let common = "--keys 20 --ops 40 --json - --spread zipf --key-order hashed";
    document(bench(&server, &format!("run get --keep {common}")));
    let later = format!("run get,head --no-prepare --verify {common}");
    let read = document(bench(&server, &later));
    assert_eq!(row(&read["results"][0], "get")["operations"], 40);

    // With another seed the keys are others, and that is a failure.
    let output = output(bench(&server, &format!("{later} --seed 2")));
    assert_eq!(output.status.code(), Some(2));
    let wrong: Value = serde_json::from_slice(&output.stdout).unwrap();
    let errors = &row(&wrong["results"][0], "get")["errors"];
    assert_eq!(errors["NoSuchKey"]["count"], 40, "{errors}");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("40 x NoSuchKey") && text.contains("40 x HTTP 404"), "{text}");
}

#[test]
fn other_bytes_than_were_put_are_noticed() {
    let (_directory, data) = data_directory();
    let server = Server::start(&data);
    let common = "--keys 3 --ops 9 --concurrency 1 --json -";
    document(bench(&server, &format!("run get --keep {common}")));
    let mut client = server.client();
    for (key, body) in [(0, vec![7; 4096]), (1, vec![7; 100])] {
        let target = format!("/trine-bench/bench/read/4KiB/{key:010}");
        assert_eq!(client.request("PUT", &target, &body).unwrap().status, 200);
    }
    let errors = |more: &str| {
        let arguments = format!("run get --no-prepare --spread sequential {common}{more}");
        let output = output(bench(&server, &arguments));
        assert_eq!(output.status.code(), Some(2));
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        row(&document["results"][0], "get")["errors"].clone()
    };
    let verified = errors(" --verify");
    assert_eq!(verified["wrong: bytes"]["count"], 3, "{verified}");
    assert_eq!(verified["wrong: length of the body"]["count"], 3, "{verified}");
    let unverified = errors("");
    assert_eq!(unverified["wrong: length of the body"]["count"], 3, "{unverified}");
    assert!(unverified.get("wrong: bytes").is_none());
}

#[test]
fn two_endpoints_are_compared() {
    let (_directory, data) = data_directory();
    let server = Server::start(&data);
    let arguments = format!(
        "compare {0} {0} --operations put,get --rounds 3 --ops 20 --concurrency 2 \
         --bucket one --bucket-b two --json - --server-pid {1} --server-pid-b {1}",
        server.endpoint,
        server.id()
    );
    let document = document(bench(&server, &arguments));
    let results = document["results"].as_array().unwrap();
    assert_eq!(results.len(), 2);
    for result in results {
        assert_eq!(result["rounds"].as_array().unwrap().len(), 3);
        let ratio = &result["operations_per_s"];
        let of = |name: &str| ratio[name].as_f64().unwrap();
        assert!(0.0 < of("min") && of("min") <= of("median") && of("median") <= of("max"));
        assert_eq!(ratio["rounds"], 3);
    }
    assert_eq!(document["b"]["bucket"], "two");
    nothing_is_left(&server);
}

#[test]
fn the_suite_prints_markdown_with_the_machine() {
    let (_directory, data) = data_directory();
    let server = Server::start(&data);
    let json = data.join("suite.json");
    let arguments = format!("suite --ops 2 --keys 2 --concurrency 2 --data {}", data.display());
    let mut command = bench(&server, &arguments);
    command.arg("--json").arg(&json).args(["--server-pid", &server.id().to_string()]);
    let Output { status, stdout, stderr } = output(command);
    assert_eq!(status.code(), Some(0), "{}", String::from_utf8_lossy(&stderr));
    let text = String::from_utf8(stdout).unwrap();
    for part in ["| PUT | 4 KiB |", "| GET | 16 MiB |", "| DELETE |", "| LIST | 1000 keys |"] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(text.contains("cores") && text.contains("Linux ") && text.contains(" on "), "{text}");
    let document: Value = serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    assert_eq!(document["results"].as_array().unwrap().len(), 8);
    nothing_is_left(&server);
}

#[test]
fn a_bucket_is_filled_and_all_of_it_is_listed() {
    let (_directory, data) = data_directory();
    let server = Server::start(&data);
    for order in ["ascending", "hashed"] {
        let arguments = format!(
            "fill --objects 250 --size 100 --concurrency 4 --every 50 --pages 2 --page 20 \
             --key-order {order} --json - --server-pid {}",
            server.id()
        );
        let document = document(bench(&server, &arguments));
        let marks = document["marks"].as_array().unwrap();
        let objects: Vec<_> = marks.iter().map(|mark| mark["objects"].as_u64().unwrap()).collect();
        assert_eq!(objects, [50, 100, 150, 200, 250]);
        assert!(document["rate_end_over_begin"].as_f64().unwrap() > 0.0);
        assert_eq!(document["walk"]["keys"], 250);
        for place in document["places"].as_array().unwrap() {
            assert_eq!(place["pages"], 2, "{place}");
        }
    }
    nothing_is_left(&server);
}

#[test]
fn what_cannot_be_measured_is_told_with_what_to_do() {
    let (_directory, data) = data_directory();
    let server = Server::start(&data);
    let (listener, address) = taken_port();
    // A port where nobody listens.
    drop(listener);
    let mut unreachable = bench(&server, "run put --ops 1");
    unreachable.args(["--endpoint", &format!("http://{address}")]);
    let mut not_tls = bench(&server, "run put --ops 1");
    not_tls.args(["--endpoint", &format!("https://{}", server.address())]);
    let mut wrong_key = bench(&server, "run put --ops 1");
    wrong_key.args(["--access-key", "nobody"]);
    let mut wrong_secret = bench(&server, "run put --ops 1");
    wrong_secret.args(["--secret-key", "wrong"]);
    let no_bucket = bench(&server, "run put --ops 1 --create-bucket false");
    let no_process = bench(&server, "run put --ops 1 --server-pid 4194305");
    for (command, expected) in [
        (unreachable, "is the server running"),
        (wrong_key, "does not know this access key"),
        (wrong_secret, "the secret key is wrong"),
        (no_bucket, "the bucket is missing"),
        (no_process, "process 4194305"),
        (bare("run put --ops 1"), "AWS_ACCESS_KEY_ID"),
        (not_tls, "does it speak https there"),
        (bench(&server, "run put --duration 10"), "--duration"),
        (bench(&server, "run put --concurrency 0"), "--concurrency"),
        (bench(&server, "run put --size 6GiB"), "5 GiB"),
        (bench(&server, "run multipart --part-size 1MiB"), "--part-size"),
        (bench(&server, "run mixed --mix get=x"), "mix"),
        (bench(&server, "run put --bucket a/b"), "--bucket"),
        (bench(&server, "run put --ops 1 --json /no/such/directory/x"), "--json"),
        (bench(&server, "run put --payload streaming-unsigned --checksum none"), "checksum"),
        (bench(&server, "compare http://127.0.0.1:1 http://127.0.0.1:1 --rounds 0"), "--rounds"),
        (bench(&server, "fill --objects 0"), "--objects"),
    ] {
        let text = refusal(command);
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

#[test]
fn ctrl_c_ends_with_what_was_measured_and_cleans_up() {
    let (_directory, data) = data_directory();
    let server = Server::start(&data);
    let json = data.join("stopped.json");
    let mut command = bench(&server, "run put,get --duration 1h --warm-up 0 --concurrency 2");
    command.arg("--json").arg(&json).stdout(std::process::Stdio::piped());
    let child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    // It has begun when something is there.
    while !has_objects(&server) {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    support::signal(child.id(), "INT");
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    assert_eq!(status.code(), Some(130), "{}", String::from_utf8_lossy(&stderr));
    let text = String::from_utf8(stdout).unwrap();
    assert!(text.contains("put 4 KiB c=2: stopped after"), "{text}");
    let document: Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    let results = document["results"].as_array().unwrap();
    assert_eq!(results.len(), 1);
    assert_eq!(results[0]["ended"], "stopped");
    assert!(row(&results[0], "put")["operations"].as_u64().unwrap() > 0);
    nothing_is_left(&server);
}

fn has_objects(server: &Server) -> bool {
    let target = "/trine-bench?list-type=2&max-keys=1";
    let answer = server.client().request("GET", target, b"").unwrap();
    String::from_utf8(answer.body).unwrap().contains("<Contents>")
}

#[test]
fn a_server_that_dies_meanwhile_is_counted_as_errors() {
    let (_directory, data) = data_directory();
    let server = Server::start(&data);
    let arguments = "run put --duration 2s --warm-up 0 --concurrency 2 --timeout 1s --json -";
    let command = bench(&server, &format!("{arguments} --server-pid {}", server.id()));
    let child = spawn(command);
    while !has_objects(&server) {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    server.kill();
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let errors = String::from_utf8(stderr).unwrap();
    assert!(!errors.contains("panicked"), "{errors}");
    assert_eq!(status.code(), Some(2), "{errors}");
    let document: Value = serde_json::from_slice(&stdout).unwrap();
    let result = &document["results"][0];
    assert!(
        row(result, "put")["errors"]["connect: connection refused"]["count"].as_u64() > Some(0)
    );
    assert_eq!(result["servers"][0]["lived"], false);
    assert!(errors.contains("are left in bucket trine-bench"), "{errors}");
}

fn spawn(mut command: Command) -> std::process::Child {
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    command.spawn().unwrap()
}

#[test]
fn odd_servers_are_told_and_nothing_panics() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n<html",
        "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 503 x\r\nContent-Length: 9\r\n\r\n<Code></x",
        "HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\nshort",
        "SSH-2.0-OpenSSH\r\n",
        "",
    ] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut request = [0; 4096];
                // Whatever comes is answered the same.
                let _ = std::io::Read::read(&mut stream, &mut request);
                let _ = std::io::Write::write_all(&mut stream, answer.as_bytes());
            }
        });
        let mut command = bare("run put --ops 1 --access-key a --secret-key b --timeout 5s");
        command.args(["--endpoint", &format!("http://{address}")]);
        let text = refusal(command);
        assert!(
            text.contains(&format!("http://{address}: bucket trine-bench")),
            "{answer}: {text}"
        );
    }
}

#[test]
fn https_is_measured_with_a_ca_that_is_given() {
    let (_directory, data) = data_directory();
    let mut command = trine(&data, "127.0.0.1:0");
    command.arg("--tls");
    let server = Server::from_command(command);
    let arguments = "run put,get --size 300KiB --keys 5 --ops 20 --verify --json -";
    let mut command = bench(&server, arguments);
    command.env("AWS_CA_BUNDLE", data.join("tls/ca.pem"));
    let result = document(command);
    let measured = result["results"].as_array().unwrap();
    assert_eq!(measured.len(), 2, "{result}");
    for measured in measured {
        assert_eq!(row(measured, measured["operation"].as_str().unwrap())["failed"], 0, "{result}");
    }

    // The system knows nothing of it.
    let text = refusal(bench(&server, arguments));
    assert!(text.contains("TLS: ") && text.contains("--ca-bundle"), "{text}");
    let mut command = bench(&server, arguments);
    command.arg("--ca-bundle").arg(data.join("cluster.toml"));
    let text = refusal(command);
    assert!(text.contains("cluster.toml: there is no certificate in it"), "{text}");
}
