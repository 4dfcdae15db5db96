//! Multipart uploads, with parts in parallel.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use hyper::Method;
use tokio::task::JoinSet;

use super::client::answer::{Failure, count, text};
use super::client::sign::push_query;
use super::client::{Ask, Client, Expect, Upload};
use super::measure::Recorder;
use super::phase::Phase;
use super::workload::{KeySet, Kind};

/// What the lanes of an upload share.
struct Parts {
    key: String,
    number: u64,
    upload_id: String,
    len: u64,
    part_bytes: u64,
    next: AtomicU64,
    phase: Arc<Phase>,
    recorder: Arc<Mutex<Recorder>>,
}

/// Number and entity tag of a part.
type Tag = (u64, String);

/// Upload an object in parts: its length. What fails is aborted.
pub(crate) async fn upload(
    client: &mut Client,
    lanes: &mut Vec<Client>,
    set: &KeySet,
    number: u64,
    part_bytes: u64,
    phase: &Arc<Phase>,
    recorder: &Arc<Mutex<Recorder>>,
) -> Result<u64, Failure> {
    let key = set.key(number);
    let len = client.content().object(set.sizes.sizes(), number).len();
    let created = ask(client, Method::POST, &key, "uploads=", Upload::None).await?;
    let upload_id = text(&created, "UploadId").filter(|id| !id.is_empty());
    let upload_id = upload_id.ok_or(Failure::Wrong("an upload without UploadId"))?;
    let parts = Arc::new(Parts {
        key,
        number,
        upload_id,
        len,
        part_bytes,
        next: AtomicU64::new(0),
        phase: Arc::clone(phase),
        recorder: Arc::clone(recorder),
    });
    let mut query = String::new();
    push_query(&mut query, "uploadId", &parts.upload_id);
    let result = match send_parts(lanes, &parts).await {
        Ok(tags) => complete(client, &parts.key, &query, &tags).await,
        Err(failure) => Err(failure),
    };
    if result.is_err() {
        // The failure is what is told; an abort that fails too adds nothing to it.
        let _ = ask(client, Method::DELETE, &parts.key, &query, Upload::None).await;
    }
    result.map(|()| len)
}

async fn send_parts(lanes: &mut Vec<Client>, parts: &Arc<Parts>) -> Result<Vec<Tag>, Failure> {
    let mut tasks = JoinSet::new();
    for lane in lanes.drain(..) {
        tasks.spawn(send_on_lane(lane, Arc::clone(parts)));
    }
    let (mut tags, mut result) = (Vec::new(), Ok(()));
    while let Some(ended) = tasks.join_next().await {
        // A task that panicked has told so, and its lane is gone.
        let Ok((lane, sent)) = ended else {
            result = Err(Failure::Broken("a lane has ended".to_owned()));
            continue;
        };
        lanes.push(lane);
        match sent {
            Ok(sent) => tags.extend(sent),
            Err(failure) => result = result.and(Err(failure)),
        }
    }
    result?;
    tags.sort_unstable();
    Ok(tags)
}

async fn send_on_lane(mut lane: Client, parts: Arc<Parts>) -> (Client, Result<Vec<Tag>, Failure>) {
    let mut tags = Vec::new();
    loop {
        let place = parts.next.fetch_add(1, Ordering::Relaxed);
        let offset = place.saturating_mul(parts.part_bytes);
        if offset >= parts.len || parts.phase.is_stopped() {
            let result = if offset < parts.len { Err(Failure::Stopped) } else { Ok(tags) };
            return (lane, result);
        }
        match send_part(&mut lane, &parts, place + 1, offset).await {
            Ok(tag) => tags.push((place + 1, tag)),
            Err(failure) => {
                // The other lanes need not go on.
                parts.next.store(u64::MAX / 2 / parts.part_bytes.max(1), Ordering::Relaxed);
                return (lane, Err(failure));
            }
        }
    }
}

async fn send_part(
    lane: &mut Client,
    parts: &Parts,
    part: u64,
    offset: u64,
) -> Result<String, Failure> {
    let len = parts.part_bytes.min(parts.len - offset);
    let body = lane.content().part(parts.number, offset, len);
    let mut query = String::new();
    push_query(&mut query, "partNumber", &part.to_string());
    push_query(&mut query, "uploadId", &parts.upload_id);
    let began = Instant::now();
    let expect = Expect::Document;
    let upload = Upload::Body(body);
    let asked = Ask { method: Method::PUT, key: &parts.key, query: &query, upload, expect };
    let answer = lane.ask(asked).await;
    let result = answer.and_then(|answer| answer.etag.ok_or(Failure::Wrong("a part without ETag")));
    let at = parts.phase.began.elapsed();
    let mut recorder = parts.recorder.lock().unwrap_or_else(PoisonError::into_inner);
    recorder.requests += std::mem::take(&mut lane.requests);
    match &result {
        Ok(_) => recorder.success(Kind::Part, at, began.elapsed(), len),
        Err(failure) => recorder.failure(Kind::Part, at, failure),
    }
    result
}

async fn complete(
    client: &mut Client,
    key: &str,
    query: &str,
    tags: &[Tag],
) -> Result<(), Failure> {
    let mut document = String::from("<CompleteMultipartUpload>");
    for (part, tag) in tags {
        let tag = quick_xml::escape::escape(tag.as_str());
        // Writing to a string cannot fail.
        let _ = write!(document, "<Part><PartNumber>{part}</PartNumber><ETag>{tag}</ETag></Part>");
    }
    document.push_str("</CompleteMultipartUpload>");
    let upload = Upload::Document(Bytes::from(document));
    let answer = ask(client, Method::POST, key, query, upload).await?;
    // S3 may say so after it has begun to answer with 200.
    if count(&answer, "Error") > 0 || text(&answer, "ETag").is_none() {
        return Err(Failure::refused(hyper::StatusCode::OK, &answer));
    }
    Ok(())
}

async fn ask(
    client: &mut Client,
    method: Method,
    key: &str,
    query: &str,
    upload: Upload,
) -> Result<Bytes, Failure> {
    let ask = Ask { method, key, query, upload, expect: Expect::Document };
    client.ask(ask).await.map(|answer| answer.body)
}
