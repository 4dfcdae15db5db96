//! The page of `cargo sim timeline`, looked at in a real browser.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use trine_compat_tests::browser::Browser;
use trine_compat_tests::{scratch, server, target, workspace};

const WIDTH: u32 = 1400;
const HEIGHT: u32 = 900;
/// A key as only an enemy names one.
const KEY: &str = "</script><u>'&amp;<!--";

/// Where what was seen stays, for people: `target/compat/pictures`.
fn pictures() -> PathBuf {
    let folder = target().join("compat/pictures");
    fs::create_dir_all(&folder).expect("target/ is writable");
    folder
}

/// A recorded run: it stays the same whatever seeds draw.
fn run() -> String {
    let path = workspace().join("sim/regressions/0082-freed-not-lost.toml");
    path.to_str().expect("a plain path").to_owned()
}

/// Draw a run.
fn draw(folder: &Path, arguments: &[&str]) -> PathBuf {
    let (sim, file) = (server::program("trine-sim", "trine-sim"), folder.join("timeline.html"));
    let output =
        Command::new(&sim).arg("timeline").args(arguments).arg("--out").arg(&file).output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}", sim.display()));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    file
}

fn count(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_else(|| panic!("no {name} in {value}"))
}

fn interval(browser: &mut Browser) -> (f64, f64) {
    let view = browser.value("timeline.view()");
    (view[0].as_f64().expect("a number"), view[1].as_f64().expect("a number"))
}

/// The place of a thing on the screen.
fn place(browser: &mut Browser, kind: &str, number: u64) -> (f64, f64) {
    let place = browser.value(&format!("timeline.place('{kind}', {number})"));
    (place[0].as_f64().expect("a number"), place[1].as_f64().expect("a number"))
}

/// Keep what can be seen, for people, and say how many colours it has and which is at a place.
fn look(browser: &mut Browser, keep: &Path, at: (f64, f64)) -> (u64, Value) {
    let shot = browser.screenshot();
    fs::write(keep, decode(&shot)).expect("it is our folder");
    // The browser that made the image reads it back.
    let told = browser.value(&format!(
        "(async () => {{
            const image = new Image();
            image.src = 'data:image/png;base64,{shot}';
            await image.decode();
            const canvas = new OffscreenCanvas(image.width, image.height), c = canvas.getContext('2d');
            c.drawImage(image, 0, 0);
            const colours = new Set(new Uint32Array(c.getImageData(0, 0, image.width, image.height).data.buffer));
            return [colours.size, [...c.getImageData({}, {}, 1, 1).data]];
        }})()",
        at.0, at.1
    ));
    (told[0].as_u64().expect("a number"), told[1].clone())
}

/// Base64.
fn decode(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |byte: u8| DIGITS.iter().position(|digit| *digit == byte);
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_usize, 0);
    for value in text.bytes().map_while(digit) {
        bits = bits << 6 | value;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from(bits >> held & 0xff).expect("one byte"));
        }
    }
    bytes
}

/// No label stands on another.
fn labels_do_not_overlap(browser: &mut Browser) {
    let labels = browser.value("timeline.labels()");
    let labels: Vec<[f64; 4]> = labels
        .as_array()
        .expect("a list")
        .iter()
        .map(|label| [0, 1, 2, 3].map(|at| label[at].as_f64().expect("a number")))
        .collect();
    assert!(labels.len() > 8, "{labels:?}");
    for (number, [left, top, right, bottom]) in labels.iter().enumerate() {
        for other in &labels[number + 1..] {
            let apart =
                other[0] >= *right || other[2] <= *left || other[1] >= *bottom || other[3] <= *top;
            assert!(apart, "{:?} and {other:?}", labels[number]);
        }
    }
}

#[test]
fn a_run_can_be_seen_searched_clicked_and_zoomed() {
    let folder = scratch("timeline");
    let file = draw(&folder, &[&run()]);
    let mut browser = Browser::start(&folder, WIDTH, HEIGHT, false);
    // It begins with an empty page.
    let (blank, _) = look(&mut browser, &pictures().join("blank.png"), (1.0, 1.0));
    browser.open(&file);

    // The lanes, an operation, a fault and more are drawn, and the screen shows it.
    let drawn = browser.value("timeline.drawn()");
    assert_eq!(count(&drawn, "lanes"), 5, "{drawn}");
    for what in ["rows", "operations", "faults", "leaders", "marks", "strikes", "busy"] {
        assert!(count(&drawn, what) > 0, "{what}: {drawn}");
    }
    assert_eq!(drawn["failure"], false);
    labels_do_not_overlap(&mut browser);
    let fault = place(&mut browser, "fault", 0);
    let (colours, at_fault) = look(&mut browser, &pictures().join("whole.png"), fault);
    assert!(blank < 3 && colours > 30, "{blank} colours, then {colours}");
    // Red, on whatever is behind it.
    assert!(at_fault[0].as_u64() > Some(150) && at_fault[1].as_u64() < Some(120), "{at_fault}");

    // The wheel zooms in; where few enough messages are in sight, they are arrows.
    let whole = interval(&mut browser);
    browser.wheel(800.0, 400.0, -200.0);
    let nearer = interval(&mut browser);
    assert!(nearer.0 > whole.0 && nearer.1 < whole.1, "{whole:?}, then {nearer:?}");
    browser.key("0");
    assert_eq!(interval(&mut browser), whole);
    browser.key("+");
    assert!(interval(&mut browser).1 < whole.1);
    browser.value("timeline.look(2e6, 2.1e6)");
    let drawn = browser.value("timeline.drawn()");
    assert!(count(&drawn, "messages") > 20 && count(&drawn, "busy") == 0, "{drawn}");
    labels_do_not_overlap(&mut browser);
    browser.key("0");

    // A key is found; the next match comes into sight and tells its details.
    browser.key("/");
    browser.command("Input.insertText", serde_json::json!({"text": "hot-0"}));
    browser.enter();
    assert!(browser.value("timeline.matches()").as_u64() > Some(5));
    let details = browser.value("timeline.details()");
    assert!(details.as_str().is_some_and(|text| text.contains("hot-0")), "{details}");
    let first = interval(&mut browser);
    assert!(first.1 - first.0 < 300_000.0, "{first:?}");
    look(&mut browser, &pictures().join("found.png"), (1.0, 1.0));
    browser.value("document.getElementById('next').click()");
    assert_ne!(browser.value("timeline.details()"), details);
    browser.key("Escape");
    assert_eq!(browser.value("timeline.details()"), Value::Null);

    // A click on an operation tells all lines of its request; one on a message both of its own.
    let keys = browser.value("timeline.keys");
    let keys = keys.as_array().expect("a list");
    let number = keys.iter().position(|key| key == "hot-0").expect("somebody asks for it");
    let times =
        browser.value(&format!("[timeline.raw.oAt[{number}], timeline.raw.oEnd[{number}]]"));
    let (begin, end) = (times[0].as_f64().expect("a number"), times[1].as_f64().expect("a number"));
    browser.value(&format!("timeline.look({begin} - 1000, {end} + 1000)"));
    let operation = place(&mut browser, "operation", number as u64);
    browser.click(operation.0, operation.1);
    let details = browser.value("timeline.details()");
    let details = details.as_str().expect("details are shown");
    assert!(details.contains("hot-0") && details.contains("request "), "{details}");
    assert!(details.contains("reply ") || details.contains("body end"), "{details}");
    let (_, colour) = look(&mut browser, &pictures().join("operation.png"), operation);
    assert_ne!(colour, serde_json::json!([255, 255, 255, 255]));

    browser.key("Escape");
    browser.key("Escape");
    let arrived = "timeline.raw.mAt.findIndex((at, i) => at > 2e6 && timeline.raw.mLater[i] > 100)";
    let number = browser.value(arrived).as_u64().expect("a message arrives");
    browser.value(&format!(
        "timeline.look(timeline.raw.mAt[{number}] - 50, timeline.raw.mAt[{number}] + timeline.raw.mLater[{number}] + 50)"
    ));
    let message = place(&mut browser, "message", number);
    browser.click(message.0, message.1);
    let details = browser.value("timeline.details()");
    let details = details.as_str().expect("details are shown");
    assert!(details.contains(" send ") && details.contains(" message "), "{details}");
    look(&mut browser, &pictures().join("message.png"), (1.0, 1.0));

    assert_eq!(browser.value("timeline.errors"), serde_json::json!([]));
    assert_eq!(browser.errors, [""; 0]);
    let outside = |url: &&String| {
        !url.starts_with("file:") && !url.starts_with("data:") && *url != "about:blank"
    };
    assert_eq!(browser.requests.iter().find(outside), None, "the page needs nothing else");
    drop(browser);
    fs::remove_dir_all(folder).expect("it is our folder");
}

#[test]
fn a_key_cannot_break_out_of_the_page() {
    let folder = scratch("timeline-keys");
    let (sim, case) = (server::program("trine-sim", "trine-sim"), folder.join("case.toml"));
    let status = Command::new(sim).args(["record", &run(), "--out"]).arg(&case).status();
    assert!(status.is_ok_and(|status| status.success()));
    let text = fs::read_to_string(&case).expect("it was just written");
    assert!(text.contains("hot-0"), "{text}");
    fs::write(&case, text.replace("hot-0", KEY)).expect("it is our folder");
    let file = draw(&folder, &[case.to_str().expect("a plain path")]);
    let mut browser = Browser::start(&folder, WIDTH, HEIGHT, false);
    browser.open(&file);
    let quoted = serde_json::json!(KEY);
    assert_eq!(browser.value(&format!("timeline.keys.includes({quoted})")), true);
    browser.key("/");
    browser.command("Input.insertText", serde_json::json!({"text": KEY}));
    browser.enter();
    let details = browser.value("timeline.details()");
    assert!(details.as_str().is_some_and(|text| text.contains(KEY)), "{details}");
    assert_eq!(browser.value("document.querySelectorAll('u, script:not([type])').length"), 1);
    assert_eq!(browser.errors, [""; 0]);
    drop(browser);
    fs::remove_dir_all(folder).expect("it is our folder");
}

#[test]
fn a_failure_is_a_red_line_and_its_text_also_in_the_dark() {
    let folder = scratch("timeline-failure");
    // Seeds that do not show the mistake are passed by.
    let failing = (0..20)
        .map(|seed: u32| draw(&folder, &[&seed.to_string(), "--planted", "BloomFalseNegative"]));
    let shows = |file: &PathBuf| {
        let html = fs::read_to_string(file).expect("it was just written");
        !html.contains("\"failure\":\"\"")
    };
    let file = failing.into_iter().find(shows).expect("one seed of twenty shows it");
    let mut browser = Browser::start(&folder, WIDTH, HEIGHT, true);
    browser.open(&file);
    let drawn = browser.value("timeline.drawn()");
    assert_eq!(drawn["failure"], true, "{drawn}");
    labels_do_not_overlap(&mut browser);
    let told = browser.value("document.getElementById('failure').textContent");
    assert!(told.as_str().is_some_and(|text| text.contains("FAILED: ")), "{told}");
    let (_, colour) = look(&mut browser, &pictures().join("dark.png"), (3.0, 3.0));
    assert!(colour[0].as_u64() < Some(60), "the page is dark: {colour}");
    browser.key("f");
    let details = browser.value("timeline.details()");
    assert!(details.as_str().is_some_and(|text| text.starts_with("The run failed")), "{details}");
    let view = interval(&mut browser);
    assert_eq!(browser.value("timeline.raw.span[1]").as_f64(), Some(view.1));
    look(&mut browser, &pictures().join("failure.png"), (3.0, 3.0));
    assert_eq!(browser.errors, [""; 0]);
    drop(browser);
    fs::remove_dir_all(folder).expect("it is our folder");
}
