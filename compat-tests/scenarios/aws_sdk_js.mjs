// The AWS SDK for JavaScript v3: its client, lib-storage and presigned requests.

import assert from 'node:assert/strict';
import { createReadStream, writeFileSync } from 'node:fs';
import { Readable } from 'node:stream';
import { setTimeout } from 'node:timers/promises';
import {
  CompleteMultipartUploadCommand, CopyObjectCommand, CreateBucketCommand, CreateMultipartUploadCommand, DeleteBucketCommand,
  DeleteObjectCommand, DeleteObjectsCommand, GetObjectAttributesCommand, GetObjectCommand, HeadBucketCommand, HeadObjectCommand,
  ListBucketsCommand, ListMultipartUploadsCommand, ListPartsCommand, NoSuchBucket, NoSuchKey, NotFound, PutObjectCommand, S3Client,
  UploadPartCommand, UploadPartCopyCommand, BucketAlreadyOwnedByYou, paginateListObjectsV2, waitUntilBucketExists, waitUntilObjectNotExists,
} from '@aws-sdk/client-s3';
import { Upload } from '@aws-sdk/lib-storage';
import { getSignedUrl } from '@aws-sdk/s3-request-presigner';
import { AWKWARD, BIG, ENDPOINT, REGION, data, fails, forEach, same, sorted, step } from './common.mjs';

const s3 = new S3Client({ endpoint: ENDPOINT, region: REGION, forcePathStyle: true, maxAttempts: 1 });
const Bucket = 'aws-sdk-js';
const send = (Command, input) => s3.send(new Command({ Bucket, ...input }));
const get = async (Key, more) => Buffer.from(await (await send(GetObjectCommand, { Key, ...more })).Body.transformToByteArray());

await send(CreateBucketCommand);
await waitUntilBucketExists({ client: s3, maxWaitTime: 10 }, { Bucket });
await send(HeadBucketCommand);
assert.deepEqual((await s3.send(new ListBucketsCommand())).Buckets.map((it) => it.Name), [Bucket]);

step('objects of every size, with words, in every checksum');
const words = { ContentType: 'text/x-size', CacheControl: 'max-age=60', Metadata: { colour: 'blue' } };
for (const size of [0, 1, 16_385, (3 << 20) + 7]) {
  for (const ChecksumAlgorithm of ['CRC32', 'CRC32C', 'CRC64NVME', 'SHA1', 'SHA256']) {
    const Key = `size/${size}`;
    const put = await send(PutObjectCommand, { Key, Body: data(size), ...words, ChecksumAlgorithm });
    const got = await send(GetObjectCommand, { Key, ChecksumMode: 'ENABLED' });
    same(await got.Body.transformToByteArray(), data(size));
    assert.equal(got.ETag, put.ETag);
    assert.equal(got[`Checksum${ChecksumAlgorithm}`], put[`Checksum${ChecksumAlgorithm}`]);
    assert.ok(put[`Checksum${ChecksumAlgorithm}`], ChecksumAlgorithm);
    for (const name of Object.keys(words)) assert.deepEqual(got[name], words[name], name);
  }
}
await send(PutObjectCommand, { Key: 'streamed', Body: Readable.from([data(5_000), data(70_000, 2)]), ContentLength: 75_000 });
same(await get('streamed'), Buffer.concat([data(5_000), data(70_000, 2)]));

step('lib-storage: buffers, files, and streams of unknown length');
writeFileSync('big', data(BIG));
let parts = 0;
for (const Body of [data(BIG), createReadStream('big'), Readable.from((function* pieces() {
  for (let at = 0; at < BIG; at += 1_000_000) yield data(BIG).subarray(at, at + 1_000_000);
})())]) {
  const upload = new Upload({ client: s3, params: { Bucket, Key: 'big ü+', Body, ...words }, partSize: 5 << 20, queueSize: 4 });
  upload.on('httpUploadProgress', () => { parts += 1; });
  const done = await upload.done();
  assert.match(done.ETag, /-5"$/);
  same(await get('big ü+'), data(BIG));
}
assert.ok(parts >= 15, `${parts} parts told`);
const tiny = new Upload({ client: s3, params: { Bucket, Key: 'tiny', Body: Readable.from([Buffer.from('x')]) } });
await tiny.done();
assert.equal((await get('tiny')).toString(), 'x');
const head = await send(HeadObjectCommand, { Key: 'big ü+' });
assert.equal(head.ContentLength, BIG);
assert.deepEqual(head.Metadata, words.Metadata);
const stopped = new Upload({ client: s3, params: { Bucket, Key: 'stopped', Body: data(BIG) }, partSize: 5 << 20, queueSize: 1 });
stopped.on('httpUploadProgress', () => { stopped.abort(); });
assert.equal((await fails(() => stopped.done())).name, 'AbortError');
// It tells of the end before it has asked for it.
let open = 1;
for (let tries = 0; open > 0 && tries < 100; tries += 1) {
  open = (await send(ListMultipartUploadsCommand)).Uploads?.length ?? 0;
  await setTimeout(100);
}
assert.equal(open, 0, 'the upload was aborted');

step('ranges, conditions, attributes');
same(await get('big ü+', { Range: 'bytes=5242870-5242889' }), data(BIG).subarray(5_242_870, 5_242_890));
same(await get('big ü+', { PartNumber: 5 }), data(BIG).subarray(20 << 20));
const first = await send(PutObjectCommand, { Key: 'condition', Body: '1', IfNoneMatch: '*' });
assert.equal((await fails(() => send(PutObjectCommand, { Key: 'condition', Body: '2', IfNoneMatch: '*' }))).name, 'PreconditionFailed');
await send(PutObjectCommand, { Key: 'condition', Body: '2', IfMatch: first.ETag });
assert.equal((await fails(() => send(PutObjectCommand, { Key: 'condition', Body: '3', IfMatch: first.ETag }))).name, 'PreconditionFailed');
assert.equal((await fails(() => send(GetObjectCommand, { Key: 'condition', IfMatch: first.ETag }))).name, 'PreconditionFailed');
const attributes = await send(GetObjectAttributesCommand, { Key: 'big ü+', ObjectAttributes: ['ETag', 'ObjectSize', 'ObjectParts', 'StorageClass'] });
assert.equal(attributes.ObjectSize, BIG);
assert.equal(attributes.ObjectParts.TotalPartsCount, 5);

step('multipart by hand, with a part that is copied');
const { UploadId } = await send(CreateMultipartUploadCommand, { Key: 'by hand', ChecksumAlgorithm: 'CRC32' });
const named = [];
const one = await send(UploadPartCommand, { Key: 'by hand', UploadId, PartNumber: 1, Body: data(5 << 20, 3), ChecksumAlgorithm: 'CRC32' });
named.push({ PartNumber: 1, ETag: one.ETag, ChecksumCRC32: one.ChecksumCRC32 });
const two = await send(UploadPartCopyCommand, {
  Key: 'by hand', UploadId, PartNumber: 2, CopySource: `${Bucket}/${encodeURIComponent('big ü+')}`, CopySourceRange: 'bytes=7-6000006',
});
named.push({ PartNumber: 2, ETag: two.CopyPartResult.ETag, ChecksumCRC32: two.CopyPartResult.ChecksumCRC32 });
assert.equal((await send(ListPartsCommand, { Key: 'by hand', UploadId })).Parts.length, 2);
await send(CompleteMultipartUploadCommand, { Key: 'by hand', UploadId, MultipartUpload: { Parts: named } });
same(await get('by hand'), Buffer.concat([data(5 << 20, 3), data(BIG).subarray(7, 6_000_007)]));

step('1,100 keys');
const keys = sorted([...Array.from({ length: 1_100 }, (_, n) => `many/${n % 3}/${String(n).padStart(4, '0')}`), ...AWKWARD.map((key) => `many/${key}`)]);
await forEach(keys, 16, (Key) => send(PutObjectCommand, { Key, Body: Key }));
const found = [];
for await (const page of paginateListObjectsV2({ client: s3 }, { Bucket, Prefix: 'many/' })) found.push(...page.Contents.map((it) => it.Key));
assert.deepEqual(found, keys);
const folders = [];
for await (const page of paginateListObjectsV2({ client: s3, pageSize: 3 }, { Bucket, Prefix: 'many/', Delimiter: '/' })) {
  folders.push(...(page.CommonPrefixes ?? []).map((it) => it.Prefix));
}
assert.deepEqual(folders, sorted(new Set(keys.filter((key) => key.slice(5).includes('/')).map((key) => key.slice(0, key.indexOf('/', 5) + 1)))));
for (const key of AWKWARD) assert.equal((await get(`many/${key}`)).toString(), `many/${key}`);

step('a copy, and presigned requests');
await send(CopyObjectCommand, { Key: 'copy', CopySource: `${Bucket}/${encodeURIComponent('big ü+')}` });
same(await get('copy'), data(BIG));
const url = await getSignedUrl(s3, new GetObjectCommand({ Bucket, Key: 'big ü+' }), { expiresIn: 600 });
same(Buffer.from(await (await fetch(url)).arrayBuffer()), data(BIG));
const putUrl = await getSignedUrl(s3, new PutObjectCommand({ Bucket, Key: 'by a stranger' }), { expiresIn: 600 });
const answer = await fetch(putUrl, { method: 'PUT', body: 'hello' });
assert.equal(answer.status, 200, await answer.text());
assert.equal((await get('by a stranger')).toString(), 'hello');
assert.equal((await fetch(putUrl.replace('stranger', 'friend'), { method: 'PUT', body: 'hello' })).status, 403);

step('classes of errors');
assert.ok(await fails(() => get('missing')) instanceof NoSuchKey);
assert.ok(await fails(() => send(HeadObjectCommand, { Key: 'missing' })) instanceof NotFound);
assert.ok(await fails(() => s3.send(new CreateBucketCommand({ Bucket }))) instanceof BucketAlreadyOwnedByYou);
const nowhere = await fails(() => s3.send(new PutObjectCommand({ Bucket: 'no-such-bucket', Key: 'k', Body: 'x' })));
assert.ok(nowhere instanceof NoSuchBucket || nowhere.name === 'NoSuchBucket', nowhere.name);
assert.equal((await fails(() => send(DeleteBucketCommand))).name, 'BucketNotEmpty');

step('all deleted');
await send(DeleteObjectCommand, { Key: 'tiny' });
await waitUntilObjectNotExists({ client: s3, maxWaitTime: 10 }, { Bucket, Key: 'tiny' });
for await (const page of paginateListObjectsV2({ client: s3 }, { Bucket })) {
  const told = await send(DeleteObjectsCommand, { Delete: { Objects: page.Contents.map((it) => ({ Key: it.Key })) } });
  assert.equal(told.Errors, undefined);
  assert.equal(told.Deleted.length, page.Contents.length);
}
await send(DeleteBucketCommand);
assert.equal((await s3.send(new ListBucketsCommand())).Buckets?.length ?? 0, 0);
