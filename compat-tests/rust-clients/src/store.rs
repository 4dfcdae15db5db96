//! object_store: conditional puts, ranges, pages, copy and rename, multipart, signed URLs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3, AmazonS3Builder, S3CopyIfNotExists};
use object_store::path::Path;
use object_store::signer::Signer;
use object_store::{
    Attribute, Attributes, Certificate, ClientOptions, CopyMode, CopyOptions, Error, GetOptions,
    GetRange, ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload,
    RetryConfig, UpdateVersion, WriteMultipart,
};

use crate::shared::{AWKWARD, BIG, curl, data, folders, many, same, step, variable};

fn store() -> AmazonS3 {
    let endpoint = variable("ENDPOINT");
    let mut options = ClientOptions::new().with_allow_http(endpoint.starts_with("http://"));
    if let Ok(ca) = std::env::var("SSL_CERT_FILE") {
        let pem = std::fs::read(ca).expect("the CA can be read");
        for certificate in Certificate::from_pem_bundle(&pem).expect("PEM") {
            options = options.with_root_certificate(certificate);
        }
    }
    AmazonS3Builder::from_env()
        .with_endpoint(endpoint)
        .with_bucket_name("object-store-bucket")
        .with_copy_if_not_exists(S3CopyIfNotExists::Multipart)
        .with_client_options(options)
        // Failures are to be seen.
        .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() })
        .build()
        .expect("its settings fit")
}

fn path(key: &str) -> Path {
    Path::parse(key).unwrap_or_else(|error| panic!("{key}: {error}"))
}

async fn get(store: &AmazonS3, key: &str) -> Bytes {
    store.get(&path(key)).await.expect("it is there").bytes().await.expect("it is whole")
}

pub(crate) async fn all() {
    let store = Arc::new(store());
    objects(&store).await;
    conditions(&store).await;
    parts(&store).await;
    pages(&store).await;
    copies(&store).await;
    signed(&store).await;

    step("errors, and all deleted");
    let missing = store.get(&path("missing")).await;
    assert!(matches!(missing, Err(Error::NotFound { .. })), "{missing:?}");
    let missing = store.head(&path("missing")).await;
    assert!(matches!(missing, Err(Error::NotFound { .. })), "{missing:?}");
    let every = store.list(None).map_ok(|it| it.location).boxed();
    let deleted: Vec<Path> = store.delete_stream(every).try_collect().await.expect("deleted");
    assert_eq!(deleted.len(), many().len() + 11, "{deleted:?}");
    assert!(store.list(None).next().await.is_none());
}

async fn objects(store: &AmazonS3) {
    step("objects of every size, with attributes; ranges");
    let attributes = Attributes::from_iter([
        (Attribute::ContentType, "text/x-size"),
        (Attribute::CacheControl, "max-age=60"),
        (Attribute::Metadata("colour".into()), "blue"),
    ]);
    for size in [0, 1, 16_385, (3 << 20) + 7, BIG] {
        let body = data(size, 1);
        let at = path(&format!("size/{size}"));
        let options = PutOptions { attributes: attributes.clone(), ..PutOptions::default() };
        let put = store.put_opts(&at, body.clone().into(), options).await.expect("put");
        let got = store.get(&at).await.expect("it is there");
        assert_eq!((got.meta.size, got.meta.e_tag.clone()), (size as u64, put.e_tag.clone()));
        assert_eq!(got.attributes, attributes);
        same(&got.bytes().await.expect("it is whole"), &body);
        assert_eq!(store.head(&at).await.expect("it is there").e_tag, put.e_tag);
    }
    let (at, body) = (path(&format!("size/{BIG}")), data(BIG, 1));
    let end = BIG as u64;
    let ranges = [0..5, 10..1_010, 5_242_877..5_242_883, 12_000_000..15_000_000, end - 5..end];
    let got = store.get_ranges(&at, &ranges).await.expect("all of them");
    for (range, got) in ranges.iter().zip(&got) {
        let within = range.start as usize..range.end as usize;
        same(got, &body[within]);
    }
    let suffix = GetOptions { range: Some(GetRange::Suffix(77)), ..GetOptions::default() };
    let got = store.get_opts(&at, suffix).await.expect("its end");
    assert_eq!(got.range, end - 77..end);
    same(&got.bytes().await.expect("it is whole"), &body[BIG - 77..]);
    let streamed = store.get(&at).await.expect("it is there").into_stream();
    let streamed = streamed.try_fold(Vec::new(), |mut all, chunk| async move {
        all.extend_from_slice(&chunk);
        Ok(all)
    });
    same(&streamed.await.expect("it is whole"), &body);
}

async fn conditions(store: &Arc<AmazonS3>) {
    step("conditions: create, update, read; a race");
    let at = path("condition");
    let put = |body: &'static [u8], mode: PutMode| {
        let (store, at) = (store.clone(), at.clone());
        async move { store.put_opts(&at, PutPayload::from_static(body), mode.into()).await }
    };
    let first = put(b"1", PutMode::Create).await.expect("nothing was there");
    let again = put(b"2", PutMode::Create).await;
    assert!(matches!(again, Err(Error::AlreadyExists { .. })), "{again:?}");
    let version = UpdateVersion { e_tag: first.e_tag.clone(), version: first.version.clone() };
    let second = put(b"2", PutMode::Update(version.clone())).await.expect("nobody was faster");
    let late = put(b"3", PutMode::Update(version)).await;
    assert!(matches!(late, Err(Error::Precondition { .. })), "{late:?}");
    let unless = GetOptions { if_none_match: second.e_tag.clone(), ..GetOptions::default() };
    let same_one = store.get_opts(&at, unless).await;
    assert!(matches!(same_one, Err(Error::NotModified { .. })), "{same_one:?}");
    let only = GetOptions { if_match: first.e_tag, ..GetOptions::default() };
    let other = store.get_opts(&at, only).await;
    assert!(matches!(other, Err(Error::Precondition { .. })), "{other:?}");

    let racers = (0..16_u8).map(|number| {
        let store = store.clone();
        async move {
            let body = PutPayload::from(vec![number]);
            match store.put_opts(&path("race"), body, PutMode::Create.into()).await {
                Ok(_) => Some(number),
                Err(Error::AlreadyExists { .. }) => None,
                Err(error) => panic!("{error}"),
            }
        }
    });
    let won: Vec<u8> = futures::future::join_all(racers).await.into_iter().flatten().collect();
    assert_eq!(won.len(), 1, "{won:?}");
    assert_eq!(get(store, "race").await[..], won);
}

async fn parts(store: &AmazonS3) {
    step("multipart: whole, and aborted");
    let body = data(BIG, 2);
    let upload = store.put_multipart_opts(&path("parts"), PutMultipartOptions::default()).await;
    let mut write = WriteMultipart::new_with_chunk_size(upload.expect("begun"), 5 << 20);
    for piece in body.chunks(1_234_567) {
        write.wait_for_capacity(4).await.expect("its parts go up");
        write.write(piece);
    }
    let put = write.finish().await.expect("completed");
    assert!(put.e_tag.expect("a tag").ends_with("-5\""));
    same(&get(store, "parts").await, &body);
    let mut upload = store.put_multipart(&path("dropped")).await.expect("begun");
    upload.put_part(data(5 << 20, 3).into()).await.expect("a part");
    upload.abort().await.expect("aborted");
    let dropped = store.head(&path("dropped")).await;
    assert!(matches!(dropped, Err(Error::NotFound { .. })), "{dropped:?}");
}

async fn pages(store: &Arc<AmazonS3>) {
    step("1,100 keys");
    let keys = many();
    let puts = keys.iter().map(|key| {
        let (store, at) = (store.clone(), path(key));
        let body = PutPayload::from(key.clone().into_bytes());
        async move { store.put(&at, body).await.map(|_| ()) }
    });
    let puts = futures::stream::iter(puts).buffer_unordered(16);
    puts.try_collect::<Vec<()>>().await.expect("all are put");
    let found: Vec<String> = store
        .list(Some(&path("many")))
        .map_ok(|it| it.location.to_string())
        .try_collect()
        .await
        .expect("listed");
    assert!(found.iter().eq(&keys), "in order, and all");
    let offset = path("many/1/0500");
    let after: Vec<_> =
        store.list_with_offset(Some(&path("many")), &offset).try_collect().await.expect("listed");
    let behind = keys.range("many/1/0500".to_owned()..).skip_while(|key| *key == "many/1/0500");
    assert_eq!(after.len(), behind.count());
    let tops = store.list_with_delimiter(Some(&path("many"))).await.expect("listed");
    let tops: BTreeSet<String> = tops.common_prefixes.iter().map(|it| format!("{it}/")).collect();
    assert_eq!(tops, folders(&keys));
    for key in AWKWARD {
        let key = format!("many/{key}");
        assert_eq!(get(store, &key).await, key.as_bytes());
    }
}

async fn copies(store: &AmazonS3) {
    step("copied, renamed; a copy that must not replace");
    store.copy(&path("parts"), &path("copy ü+ %20")).await.expect("copied");
    same(&get(store, "copy ü+ %20").await, &data(BIG, 2));
    store.rename(&path("copy ü+ %20"), &path("renamed")).await.expect("renamed");
    same(&get(store, "renamed").await, &data(BIG, 2));
    assert!(store.head(&path("copy ü+ %20")).await.is_err());
    let careful = || CopyOptions::new().with_mode(CopyMode::Create);
    store.copy_opts(&path("condition"), &path("once"), careful()).await.expect("nothing was there");
    let again = store.copy_opts(&path("race"), &path("once"), careful()).await;
    assert!(matches!(again, Err(Error::AlreadyExists { .. })), "{again:?}");
    assert_eq!(get(store, "once").await[..], *b"2");
}

async fn signed(store: &AmazonS3) {
    step("signed URLs");
    let hour = Duration::from_secs(3_600);
    let (get_it, put_it) = ("GET".parse().expect("a method"), "PUT".parse().expect("a method"));
    let url = store.signed_url(get_it, &path("condition"), hour).await.expect("signed");
    assert_eq!(curl(&[url.as_str()]).await, (200, b"2".to_vec()));
    let url = store.signed_url(put_it, &path("stranger"), hour).await.expect("signed");
    let put = |url: &str| [url, "--request", "PUT", "--data-binary", "hello"].map(str::to_owned);
    let forged = put(&url.as_str().replace("/stranger", "/friend"));
    for (arguments, status) in [(put(url.as_str()), 200), (forged, 403)] {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        assert_eq!(curl(&arguments).await.0, status);
    }
    assert_eq!(get(store, "stranger").await[..], *b"hello");
}
