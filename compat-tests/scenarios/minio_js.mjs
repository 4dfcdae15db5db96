// minio-js: streams of known and unknown length, pages, copies, composed objects, presigned requests.

import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { Readable } from 'node:stream';
import * as Minio from 'minio';
import { ACCESS_KEY, AWKWARD, BIG, REGION, SECRET_KEY, SECURE, URL_, data, fails, forEach, gathered, same, sorted, step } from './common.mjs';

const client = new Minio.Client({
  endPoint: URL_.hostname, port: Number(URL_.port), useSSL: SECURE, accessKey: ACCESS_KEY, secretKey: SECRET_KEY, region: REGION,
  partSize: 5 << 20,
});
const bucket = 'minio-js';
const get = async (key) => gathered(await client.getObject(bucket, key));
const listed = (prefix, recursive) => gatheredItems(client.listObjectsV2(bucket, prefix, recursive));

async function gatheredItems(stream) {
  const items = [];
  for await (const item of stream) items.push(item);
  return items;
}

await client.makeBucket(bucket, REGION);
assert.equal(await client.bucketExists(bucket), true);
assert.equal(await client.bucketExists('no-such-bucket'), false);
assert.deepEqual((await client.listBuckets()).map((it) => it.name), [bucket]);

step('objects of every size, with words');
for (const size of [0, 1, 16_385, (3 << 20) + 7, BIG]) {
  const key = `size/${size}`;
  const put = await client.putObject(bucket, key, data(size), size, { 'Content-Type': 'text/x-size', 'Cache-Control': 'max-age=60', 'X-Amz-Meta-Colour': 'blue' });
  same(await get(key), data(size));
  const stat = await client.statObject(bucket, key);
  assert.equal(stat.size, size);
  assert.equal(stat.etag, put.etag);
  assert.equal(stat.metaData['content-type'], 'text/x-size');
  assert.equal(stat.metaData.colour, 'blue');
}
same(await gathered(await client.getPartialObject(bucket, `size/${BIG}`, 5_242_870, 20)), data(BIG).subarray(5_242_870, 5_242_890));

step('streams of unknown length');
for (const size of [10, (11 << 20) + 3]) {
  const pieces = function* pieces() {
    for (let at = 0; at < size; at += 777_777) yield data(size).subarray(at, at + 777_777);
  };
  await client.putObject(bucket, 'unknown', Readable.from(pieces(), { objectMode: false }));
  same(await get('unknown'), data(size));
}

step('files');
writeFileSync('file', data(BIG, 2));
await client.fPutObject(bucket, 'file +ü', 'file', { 'Content-Type': 'application/x-trine' });
await client.fGetObject(bucket, 'file +ü', 'back');
same(readFileSync('back'), data(BIG, 2));

step('1,100 keys');
const keys = sorted([...Array.from({ length: 1_100 }, (_, n) => `many/${String(n).padStart(4, '0')}`), ...AWKWARD.map((key) => `many/${key}`)]);
await forEach(keys, 16, (key) => client.putObject(bucket, key, Buffer.from(key)));
assert.deepEqual((await listed('many/', true)).map((it) => it.name), keys);
const tops = (await listed('', false)).map((it) => it.name ?? it.prefix);
assert.deepEqual(sorted(tops), ['file +ü', 'many/', 'size/', 'unknown']);
for (const key of AWKWARD) assert.equal((await get(`many/${key}`)).toString(), `many/${key}`);

step('a copy, and one object composed of others');
// A plus needs this form: the one with options sends it bare, which Amazon and Trine read as a space.
await client.copyObject(bucket, 'copy', `/${bucket}/file +ü`, new Minio.CopyConditions());
same(await get('copy'), data(BIG, 2));
await client.copyObject(
  new Minio.CopySourceOptions({ Bucket: bucket, Object: 'copy' }),
  new Minio.CopyDestinationOptions({ Bucket: bucket, Object: 'copy ü', MetadataDirective: 'REPLACE', UserMetadata: { colour: 'red' } }),
);
same(await get('copy ü'), data(BIG, 2));
assert.equal((await client.statObject(bucket, 'copy ü')).metaData.colour, 'red');
await client.composeObject(
  new Minio.CopyDestinationOptions({ Bucket: bucket, Object: 'composed' }),
  [new Minio.CopySourceOptions({ Bucket: bucket, Object: `size/${BIG}` }), new Minio.CopySourceOptions({ Bucket: bucket, Object: 'copy' })],
);
same(await get('composed'), Buffer.concat([data(BIG), data(BIG, 2)]));

step('presigned requests');
same(Buffer.from(await (await fetch(await client.presignedGetObject(bucket, 'file +ü', 600))).arrayBuffer()), data(BIG, 2));
const url = await client.presignedPutObject(bucket, 'by a stranger', 600);
assert.equal((await fetch(url, { method: 'PUT', body: 'hello' })).status, 200);
assert.equal((await get('by a stranger')).toString(), 'hello');
assert.equal((await fetch(url.replace('stranger', 'friend'), { method: 'PUT', body: 'hello' })).status, 403);

step('errors');
assert.equal((await fails(() => client.getObject(bucket, 'missing'))).code, 'NoSuchKey');
assert.equal((await fails(() => client.statObject(bucket, 'missing'))).code, 'NotFound');
assert.equal((await fails(() => client.makeBucket(bucket, REGION))).code, 'BucketAlreadyOwnedByYou');
assert.equal((await fails(() => client.removeBucket(bucket))).code, 'BucketNotEmpty');

step('all deleted');
const every = (await listed('', true)).map((it) => it.name);
assert.equal(every.length, keys.length + 11);
await client.removeObjects(bucket, every);
assert.deepEqual(await listed('', true), []);
await client.removeBucket(bucket);
assert.deepEqual(await client.listBuckets(), []);
