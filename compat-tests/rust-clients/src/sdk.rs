//! aws-sdk-s3: streams, checksums, multipart, conditions, pages, classes of errors, presigned requests.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumMode, CompletedMultipartUpload, CompletedPart, Delete,
    ObjectIdentifier,
};
use futures::{StreamExt, TryStreamExt};

use crate::shared::{AWKWARD, BIG, curl, data, folders, many, same, step, variable};

const BUCKET: &str = "aws-sdk-rust";

fn client() -> Client {
    let keys = [variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY")];
    let [access, secret] = keys;
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(variable("ENDPOINT"))
        .credentials_provider(Credentials::new(access, secret, None, None, "suite"))
        .force_path_style(true)
        // Failures are to be seen.
        .retry_config(RetryConfig::disabled());
    Client::from_conf(config.build())
}

/// What the service answered instead of what was asked for.
fn code<T, E>(result: Result<T, SdkError<E>>) -> String
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match result {
        Ok(_) => "none".to_owned(),
        Err(SdkError::ServiceError(error)) => error.err().code().unwrap_or("unnamed").to_owned(),
        Err(error) => panic!("{}", DisplayErrorContext(error)),
    }
}

async fn get(s3: &Client, key: &str) -> Vec<u8> {
    let got = s3.get_object().bucket(BUCKET).key(key).send().await.expect("it is there");
    got.body.collect().await.expect("it is whole").to_vec()
}

pub(crate) async fn all() {
    let s3 = client();
    s3.create_bucket().bucket(BUCKET).send().await.expect("a bucket");
    let named = s3.list_buckets().send().await.expect("buckets");
    let names: Vec<_> = named.buckets().iter().filter_map(|it| it.name()).collect();
    assert_eq!(names, [BUCKET]);
    objects(&s3).await;
    conditions(&s3).await;
    parts(&s3).await;
    pages(&s3).await;
    presigned(&s3).await;
    errors(&s3).await;
    removed(&s3).await;
}

async fn objects(s3: &Client) {
    step("objects of every size, with words, in every checksum");
    let algorithms = [
        ChecksumAlgorithm::Crc32,
        ChecksumAlgorithm::Crc32C,
        ChecksumAlgorithm::Crc64Nvme,
        ChecksumAlgorithm::Sha1,
        ChecksumAlgorithm::Sha256,
    ];
    for size in [0, 1, 16_385, (3 << 20) + 7] {
        for algorithm in &algorithms {
            let (key, body) = (format!("size/{size}"), data(size, 1));
            let put = s3.put_object().bucket(BUCKET).key(&key).body(body.clone().into());
            let put = put.content_type("text/x-size").cache_control("max-age=60");
            let put = put.metadata("colour", "blue").checksum_algorithm(algorithm.clone());
            let put = put.send().await.expect("put");
            let got = s3.get_object().bucket(BUCKET).key(&key).checksum_mode(ChecksumMode::Enabled);
            let got = got.send().await.expect("it is there");
            assert_eq!(got.e_tag, put.e_tag);
            assert_eq!(got.content_type(), Some("text/x-size"));
            assert_eq!(got.cache_control(), Some("max-age=60"));
            assert_eq!(got.metadata().expect("words")["colour"], "blue");
            let sums = [
                (put.checksum_crc32, &got.checksum_crc32),
                (put.checksum_crc32_c, &got.checksum_crc32_c),
                (put.checksum_crc64_nvme, &got.checksum_crc64_nvme),
                (put.checksum_sha1, &got.checksum_sha1),
                (put.checksum_sha256, &got.checksum_sha256),
            ];
            assert_eq!(sums.iter().filter(|(put, _)| put.is_some()).count(), 1, "{algorithm}");
            assert!(sums.iter().all(|(put, got)| put == *got), "{algorithm}: {sums:?}");
            same(&got.body.collect().await.expect("it is whole").into_bytes(), &body);
        }
    }
    step("a file of more than one piece, streamed; ranges of it");
    let body = data(BIG, 2);
    std::fs::write("big", &body).expect("our folder is writable");
    let stream = ByteStream::from_path("big").await.expect("it is there");
    s3.put_object().bucket(BUCKET).key("big ü+").body(stream).send().await.expect("put");
    same(&get(s3, "big ü+").await, &body);
    for (first, last) in [(0, 0), (5_242_870, 5_242_889), (BIG - 77, BIG - 1)] {
        let range = s3.get_object().bucket(BUCKET).key("big ü+");
        let got = range.range(format!("bytes={first}-{last}")).send().await.expect("a range");
        assert_eq!(got.content_range(), Some(format!("bytes {first}-{last}/{BIG}").as_str()));
        same(&got.body.collect().await.expect("whole").into_bytes(), &body[first..=last]);
    }
}

async fn conditions(s3: &Client) {
    step("conditions");
    let put = |body: &'static str| {
        s3.put_object()
            .bucket(BUCKET)
            .key("condition")
            .body(ByteStream::from_static(body.as_bytes()))
    };
    let first = put("1").if_none_match("*").send().await.expect("nothing was there");
    assert_eq!(code(put("2").if_none_match("*").send().await), "PreconditionFailed");
    let tag = first.e_tag().expect("a tag");
    put("2").if_match(tag).send().await.expect("nobody was faster");
    assert_eq!(code(put("3").if_match(tag).send().await), "PreconditionFailed");
    let read = || s3.get_object().bucket(BUCKET).key("condition");
    assert_eq!(code(read().if_match(tag).send().await), "PreconditionFailed");
    assert_eq!(get(s3, "condition").await, b"2");
}

async fn parts(s3: &Client) {
    step("multipart by hand, with a part that is copied");
    let begun = s3.create_multipart_upload().bucket(BUCKET).key("by hand");
    let begun = begun.checksum_algorithm(ChecksumAlgorithm::Crc32).send().await.expect("begun");
    let upload = begun.upload_id().expect("an upload");
    let body = data(5 << 20, 3);
    let one = s3.upload_part().bucket(BUCKET).key("by hand").upload_id(upload).part_number(1);
    let one = one.checksum_algorithm(ChecksumAlgorithm::Crc32).body(body.clone().into());
    let one = one.send().await.expect("a part");
    let two = s3.upload_part_copy().bucket(BUCKET).key("by hand").upload_id(upload).part_number(2);
    let two = two.copy_source(format!("{BUCKET}/big%20%C3%BC%2B"));
    let two = two.copy_source_range("bytes=7-6000006").send().await.expect("a part of another");
    let two = two.copy_part_result().expect("its tag").clone();
    let named = CompletedMultipartUpload::builder()
        .parts(
            CompletedPart::builder()
                .part_number(1)
                .set_e_tag(one.e_tag)
                .set_checksum_crc32(one.checksum_crc32)
                .build(),
        )
        .parts(
            CompletedPart::builder()
                .part_number(2)
                .set_e_tag(two.e_tag)
                .set_checksum_crc32(two.checksum_crc32)
                .build(),
        )
        .build();
    let done = s3.complete_multipart_upload().bucket(BUCKET).key("by hand").upload_id(upload);
    done.multipart_upload(named).send().await.expect("completed");
    let whole = [&body[..], &data(BIG, 2)[7..6_000_007]].concat();
    same(&get(s3, "by hand").await, &whole);

    let begun = s3.create_multipart_upload().bucket(BUCKET).key("dropped").send().await;
    let begun = begun.expect("begun");
    let upload = begun.upload_id().expect("an upload");
    let abort = s3.abort_multipart_upload().bucket(BUCKET).key("dropped").upload_id(upload);
    abort.send().await.expect("aborted");
    let parts = s3.list_parts().bucket(BUCKET).key("dropped").upload_id(upload).send().await;
    assert_eq!(code(parts), "NoSuchUpload");

    step("a copy");
    let copy = s3.copy_object().bucket(BUCKET).key("copy");
    copy.copy_source(format!("{BUCKET}/big%20%C3%BC%2B")).send().await.expect("copied");
    same(&get(s3, "copy").await, &data(BIG, 2));
}

async fn pages(s3: &Client) {
    step("1,100 keys");
    let keys = many();
    let puts = keys.iter().map(|key| {
        let body = ByteStream::from(key.clone().into_bytes());
        s3.put_object().bucket(BUCKET).key(key).body(body).send()
    });
    let puts = futures::stream::iter(puts).buffer_unordered(16);
    puts.try_collect::<Vec<_>>().await.expect("all are put");
    let mut pages = s3.list_objects_v2().bucket(BUCKET).prefix("many/").into_paginator().send();
    let (mut found, mut count) = (Vec::new(), 0);
    while let Some(page) = pages.next().await {
        count += 1;
        let page = page.expect("a page");
        found.extend(page.contents().iter().filter_map(|it| it.key().map(str::to_owned)));
    }
    assert!(found.iter().eq(&keys), "in order, and all");
    assert_eq!(count, 2);
    let mut pages = s3
        .list_objects_v2()
        .bucket(BUCKET)
        .prefix("many/")
        .delimiter("/")
        .into_paginator()
        .page_size(3)
        .send();
    let mut tops = BTreeSet::new();
    while let Some(page) = pages.next().await {
        let page = page.expect("a page");
        tops.extend(page.common_prefixes().iter().filter_map(|it| it.prefix().map(str::to_owned)));
    }
    assert_eq!(tops, folders(&keys));
    for key in AWKWARD {
        let key = format!("many/{key}");
        assert_eq!(get(s3, &key).await, key.as_bytes());
    }
}

async fn presigned(s3: &Client) {
    step("presigned requests");
    let hour = PresigningConfig::expires_in(Duration::from_secs(3_600)).expect("an hour");
    let url = s3.get_object().bucket(BUCKET).key("condition").presigned(hour.clone()).await;
    assert_eq!(curl(&[url.expect("signed").uri()]).await, (200, b"2".to_vec()));
    let put = s3.put_object().bucket(BUCKET).key("stranger").presigned(hour).await;
    let url = put.expect("signed").uri().to_owned();
    for (url, status) in [(url.clone(), 200), (url.replace("/stranger", "/friend"), 403)] {
        let told = curl(&[&url, "--request", "PUT", "--data-binary", "hello"]).await;
        assert_eq!(told.0, status, "{}", String::from_utf8_lossy(&told.1));
    }
    assert_eq!(get(s3, "stranger").await, b"hello");
}

async fn errors(s3: &Client) {
    step("classes of errors");
    let missing = s3.get_object().bucket(BUCKET).key("missing").send().await;
    assert!(missing.expect_err("missing").into_service_error().is_no_such_key());
    let missing = s3.head_object().bucket(BUCKET).key("missing").send().await;
    assert!(missing.expect_err("missing").into_service_error().is_not_found());
    let nowhere = s3.list_objects_v2().bucket("no-such-bucket").send().await;
    assert!(nowhere.expect_err("missing").into_service_error().is_no_such_bucket());
    let again = s3.create_bucket().bucket(BUCKET).send().await;
    assert!(again.expect_err("it exists").into_service_error().is_bucket_already_owned_by_you());
    assert_eq!(code(s3.delete_bucket().bucket(BUCKET).send().await), "BucketNotEmpty");
}

async fn removed(s3: &Client) {
    step("all deleted");
    let mut pages = s3.list_objects_v2().bucket(BUCKET).into_paginator().send();
    let mut every = Vec::new();
    while let Some(page) = pages.next().await {
        let page = page.expect("a page");
        every.extend(page.contents().iter().filter_map(|it| it.key().map(str::to_owned)));
    }
    assert_eq!(every.len(), many().len() + 9, "{every:?}");
    for keys in every.chunks(1_000) {
        let named = keys.iter().map(|key| ObjectIdentifier::builder().key(key).build());
        let named: Vec<_> = named.map(|it| it.expect("a key")).collect();
        let delete = Delete::builder().set_objects(Some(named)).build().expect("keys");
        let told = s3.delete_objects().bucket(BUCKET).delete(delete).send().await;
        let told = told.expect("deleted");
        assert!(told.errors().is_empty(), "{:?}", told.errors());
        assert_eq!(told.deleted().len(), keys.len());
    }
    s3.delete_bucket().bucket(BUCKET).send().await.expect("it is empty");
    let left = s3.list_buckets().send().await.expect("buckets");
    assert!(left.buckets().is_empty());
}
