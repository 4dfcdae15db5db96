//! Tests of timelines: what is on a page, that it is the same each time, that nothing breaks out of it.

use super::pack::{page, page_within, quoted, told};
use super::*;
use crate::case::{Case, run_real};

const ALL: RangeInclusive<Nanos> = 0..=Nanos::MAX;

/// A run that stays the same whatever seeds draw.
fn small() -> Subject {
    read(include_str!("../../regressions/0082-freed-not-lost.toml"))
}

fn large() -> Subject {
    read(include_str!("../../regressions/00ce-entries-that-pin.toml"))
}

fn read(text: &str) -> Subject {
    Subject::Case(Box::new(Case::read(text).unwrap()))
}

/// The JSON on a page.
fn data(html: &str) -> &str {
    let (_, data) = html.split_once("id=\"data\">").unwrap();
    data.split_once("</script>").unwrap().0
}

/// How many items a column has.
fn length(html: &str, name: &str) -> usize {
    let (_, list) = data(html).split_once(&format!("\"{name}\":[")).unwrap();
    let (list, _) = list.split_once("]").unwrap();
    if list.is_empty() { 0 } else { list.split(',').count() }
}

#[test]
fn a_seed_has_one_page_with_all_that_it_shows() {
    let (report, first) = of(small(), None, &ALL);
    let Subject::Case(case) = small() else { panic!("it is a case") };
    let plain = run_real(&case, None, Nanos::MAX);
    assert_eq!((report.hash, report.events), (plain.hash, plain.events), "nobody notices");
    let (_, second) = of(small(), None, &ALL);
    assert_eq!(first.html, second.html);
    assert_eq!(first.left_out, []);
    assert!(
        data(&first.html).contains(r#""lanes":["zone 0","zone 1","zone 2","outside","clients"]"#)
    );
    let swarm = &report.swarm;
    let rows = swarm.stores_max() + swarm.gateways + swarm.clients + 1;
    assert_eq!(length(&first.html, "rows"), rows);
    assert!(data(&first.html).contains(r#""rows":["store-1","store-2","store-3","#));
    let counts = report.counts;
    assert_eq!(length(&first.html, "oAt") as u64, counts.operations);
    for column in ["mN", "eN", "fAt", "lAt", "dAt", "sAt"] {
        assert!(length(&first.html, column) > 0, "{column}");
    }
    // Nothing from elsewhere.
    for outside in ["http:", "https:", "src=", "@import", "@TITLE@", "@CSS@", "@DATA@", "@JS@"] {
        assert!(!first.html.contains(outside), "{outside}");
    }
}

#[test]
fn a_large_run_fits() {
    let (report, page) = of(large(), None, &ALL);
    assert!(report.events > 100_000, "{}: another run should stand here", report.events);
    assert!(page.html.len() <= BYTES_MAX, "{}", page.html.len());
}

#[test]
fn a_span_has_what_happens_in_it() {
    let (_, page) = of(small(), None, &ALL);
    let (_, span) = of(small(), None, &(1_000_000_000..=1_500_000_000));
    assert!(span.html.len() < page.html.len() / 4, "{} of {}", span.html.len(), page.html.len());
    assert!(data(&span.html).contains(r#""span":[1000000,1500000]"#));
}

/// A model with messages of all sorts.
fn model(messages: u64) -> Model {
    let lane = |lane| Row { name: format!("r{lane}"), lane };
    let texts = ["Ping(Pulse { sent: 123456 })", "RangeCall(RangeCall { call: call-77 })"];
    let sent = |number: u64| Sent {
        number,
        at: number * 1_000_000,
        from: 0,
        to: 1,
        text: texts[usize::try_from(number % 2).unwrap()].to_owned(),
        arrived: number.is_multiple_of(3).then_some((number + 5, number * 1_000_000 + 5_000)),
    };
    Model {
        title: "seed 0x7".to_owned(),
        rows: vec![lane(0), lane(1), lane(4)],
        lanes: vec!["zone 0".to_owned()],
        end: messages * 1_000_000,
        messages: (1..=messages).map(sent).collect(),
        ..Model::default()
    }
}

#[test]
fn what_does_not_fit_goes_pulses_first_and_the_page_says_so() {
    let model = model(4_000);
    let whole = page(&model);
    assert_eq!(whole.left_out, []);
    assert_eq!(length(&whole.html, "mN"), 4_000);
    let less = page_within(&model, whole.html.len() - 1);
    assert_eq!(less.left_out, [("heartbeats and pulses".to_owned(), 2_000)]);
    assert_eq!(length(&less.html, "mN"), 2_000);
    assert!(data(&less.html).contains(r#""left":["heartbeats and pulses"]"#));
    assert!(data(&less.html).contains(r#""leftCount":[2000]"#));
    let bound = page(&Model { messages: Vec::new(), ..model.clone() }).html.len() + 2_000;
    let least = page_within(&model, bound);
    assert!(least.html.len() <= bound);
    assert_eq!(least.left_out[1].0, "of the rest, the first");
    // Even what cannot fit ends.
    assert_eq!(length(&page_within(&model, 10).html, "mN"), 0);
}

#[test]
fn no_text_breaks_out_of_the_page() {
    let evil = "</script><script>alert('1')</script> \"quoted\" \\ <!-- & \u{2028} \u{7f} ü\n\t12";
    let mut model = model(3);
    let plain = page(&model).html;
    model.title = evil.to_owned();
    model.failure = Some(evil.to_owned());
    model.messages[0].text = evil.to_owned();
    model.rows[0].name = evil.to_owned();
    model.operations.push(Operation {
        client: 0,
        gateway: 1,
        request: 7,
        what: "put",
        keys: vec![evil.to_owned()],
        begun: (1, 1),
        ended: (2, 2),
        outcome: Some(Outcome::Served),
        answer: evil.to_owned(),
    });
    let html = page(&model).html;
    for tag in ["<script", "</script", "<!--"] {
        assert_eq!(html.matches(tag).count(), plain.matches(tag).count(), "{tag}");
    }
    assert_eq!(quoted("a\"\\\n<\u{1}ü"), r#""a\"\\\n\u003c\u0001ü""#);
}

#[test]
fn texts_come_back() {
    let texts = [
        "call-1234567890123456789 by store-2",
        "call-1234567890123456790 by store-2",
        "call-7 by store-10",
        "",
        "no number",
        "call-007 by store-10",
        "12",
        "~12 3",
    ];
    assert_eq!(told(&texts), texts);
}
