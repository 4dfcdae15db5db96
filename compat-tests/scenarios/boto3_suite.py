"""boto3 beyond the smoke test: transfers in parts and threads, pages, conditions under a race, presigned requests."""

import io
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError
from common import AWKWARD, BIG, CA, ENDPOINT, data, fails, fetch, same, sha, step

session = boto3.session.Session()


def client(**more):
    config = Config(retries={'total_max_attempts': 1}, s3={'addressing_style': 'path'}, max_pool_connections=16, **more)
    return session.client('s3', endpoint_url=ENDPOINT, verify=CA, config=config)


s3 = client()
v4 = client(signature_version='s3v4')
b = 'boto3-suite'
s3.create_bucket(Bucket=b)
assert b in [it['Name'] for it in s3.list_buckets()['Buckets']]
s3.get_waiter('bucket_exists').wait(Bucket=b)


def code(call, **arguments):
    return fails(ClientError, call, **arguments).response['Error']['Code']


step('files, up and down in parts and threads, with words')
body = data(BIG)
with open('big', 'wb') as file:
    file.write(body)
words = {'ContentType': 'application/x-trine', 'CacheControl': 'max-age=60', 'ContentEncoding': 'identity',
         'Metadata': {'colour': 'blue', 'dotted.name': 'x y'}}
config = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20, max_concurrency=8)
for algorithm in ['CRC32', 'SHA1', 'SHA256', None]:
    extra = dict(words, ChecksumAlgorithm=algorithm) if algorithm else words
    s3.upload_file('big', b, 'big', ExtraArgs=extra, Config=config)
    s3.download_file(b, 'big', 'back', Config=config)
    with open('back', 'rb') as file:
        same(file.read(), body)
    head = s3.head_object(Bucket=b, Key='big', ChecksumMode='ENABLED')
    assert head['ETag'].endswith('-5"') and head['ContentLength'] == BIG
    for name, value in words.items():
        assert head[name] == value, (name, head)
    assert algorithm is None or f'Checksum{algorithm}' in head, head

step('reading in pieces')
stream = s3.get_object(Bucket=b, Key='big')['Body']
same(b''.join(stream.iter_chunks(777_777)), body)
for first, last in [(0, 0), (5 << 20, (5 << 20) + 9), ((5 << 20) - 5, (5 << 20) + 5), (BIG - 1, BIG - 1)]:
    got = s3.get_object(Bucket=b, Key='big', Range=f'bytes={first}-{last}')
    same(got['Body'].read(), body[first:last + 1])
    assert got['ContentRange'] == f'bytes {first}-{last}/{BIG}'
same(s3.get_object(Bucket=b, Key='big', Range='bytes=-321')['Body'].read(), body[-321:])
third = s3.get_object(Bucket=b, Key='big', PartNumber=3)
same(third['Body'].read(), body[10 << 20:15 << 20])
assert third['PartsCount'] == 5

step('1,500 keys: pages, delimiters, start-after, and the resource interface')
keys = [f'many/{n % 7}/{n:04}' for n in range(1_500)] + ['many/' + key for key in AWKWARD]
with ThreadPoolExecutor(8) as pool:
    list(pool.map(lambda key: s3.put_object(Bucket=b, Key=key, Body=key.encode()), keys))
keys.sort(key=str.encode)
for operation in ['list_objects_v2', 'list_objects']:
    pages = list(s3.get_paginator(operation).paginate(Bucket=b, Prefix='many/'))
    assert len(pages) == 2 and [it['Key'] for page in pages for it in page['Contents']] == keys, operation
sizes = {it['Key']: it['Size'] for page in pages for it in page['Contents']}
assert all(sizes[key] == len(key.encode()) for key in keys)
pages = list(s3.get_paginator('list_objects_v2').paginate(Bucket=b, Prefix='many/', Delimiter='/', PaginationConfig={'PageSize': 4}))
folders = [it['Prefix'] for page in pages for it in page.get('CommonPrefixes', [])]
assert folders == sorted({key[:key.index('/', 5) + 1] for key in keys if '/' in key[5:]}, key=str.encode), folders
after = s3.list_objects_v2(Bucket=b, Prefix='many/', StartAfter='many/3/', MaxKeys=3)
assert [it['Key'] for it in after['Contents']] == [key for key in keys if key > 'many/3/'][:3]
bucket = session.resource('s3', endpoint_url=ENDPOINT, verify=CA).Bucket(b)
assert sum(1 for _ in bucket.objects.filter(Prefix='many/')) == len(keys)
for key in AWKWARD:
    assert s3.get_object(Bucket=b, Key='many/' + key)['Body'].read() == b'many/' + key.encode()

step('one of sixteen wins a conditional put')
start = threading.Barrier(16)


def race(number):
    start.wait()
    try:
        s3.put_object(Bucket=b, Key='race', Body=b'%d' % number, IfNoneMatch='*')
        return number
    except ClientError as error:
        # The second is what S3 answers to some of those that come at once.
        assert error.response['Error']['Code'] in ('PreconditionFailed', 'ConditionalRequestConflict'), error
        return None


with ThreadPoolExecutor(16) as pool:
    winners = [number for number in pool.map(race, range(16)) if number is not None]
assert len(winners) == 1 and s3.get_object(Bucket=b, Key='race')['Body'].read() == b'%d' % winners[0]

step('a counter by compare-and-set loses no step')
s3.put_object(Bucket=b, Key='counter', Body=b'0')


def count(_):
    while True:
        got = s3.get_object(Bucket=b, Key='counter')
        value = int(got['Body'].read())
        try:
            s3.put_object(Bucket=b, Key='counter', Body=b'%d' % (value + 1), IfMatch=got['ETag'])
            return
        except ClientError as error:
            assert error.response['Error']['Code'] in ('PreconditionFailed', 'ConditionalRequestConflict'), error


with ThreadPoolExecutor(8) as pool:
    list(pool.map(count, range(64)))
assert s3.get_object(Bucket=b, Key='counter')['Body'].read() == b'64'

step('parts that complete on a condition')
upload = s3.create_multipart_upload(Bucket=b, Key='race')['UploadId']
tag = s3.upload_part(Bucket=b, Key='race', UploadId=upload, PartNumber=1, Body=b'x')['ETag']
done = {'Bucket': b, 'Key': 'race', 'UploadId': upload, 'MultipartUpload': {'Parts': [{'PartNumber': 1, 'ETag': tag}]}}
assert code(s3.complete_multipart_upload, **done, IfNoneMatch='*') == 'PreconditionFailed'
s3.abort_multipart_upload(Bucket=b, Key='race', UploadId=upload)

step('copies by the transfer manager, in parts and threads')
s3.copy({'Bucket': b, 'Key': 'big'}, b, 'copied ü+', Config=config)
same(s3.get_object(Bucket=b, Key='copied ü+')['Body'].read(), body)
assert s3.head_object(Bucket=b, Key='copied ü+')['Metadata'] == words['Metadata']

step('presigned requests, by version 4 and, as it does unless it is told, by version 2')
for signer, mark in [(v4, 'X-Amz-Signature='), (s3, 'AWSAccessKeyId=')]:
    url = signer.generate_presigned_url('get_object', Params={'Bucket': b, 'Key': 'many/a b', 'ResponseContentType': 'text/other'})
    assert mark in url, url
    status, headers, got = fetch(url)
    assert status == 200 and got == b'many/a b' and headers['content-type'] == 'text/other', (status, headers, got)
    assert fetch(url.replace('a%20b', 'a%2Bb'))[0] == 403
    url = signer.generate_presigned_url('put_object', Params={'Bucket': b, 'Key': 'presigned', 'ContentType': 'text/plain'})
    assert fetch(url, 'PUT', b'put by a stranger', {'Content-Type': 'text/plain'})[0] == 200
    assert fetch(url, 'PUT', b'put by a stranger', {'Content-Type': 'text/html'})[0] in (400, 403)
    assert s3.get_object(Bucket=b, Key='presigned')['Body'].read() == b'put by a stranger'
    url = signer.generate_presigned_url('delete_object', Params={'Bucket': b, 'Key': 'presigned'})
    assert fetch(url, 'DELETE')[0] == 204 and code(s3.get_object, Bucket=b, Key='presigned') == 'NoSuchKey'

step('classes of errors')
fails(s3.exceptions.NoSuchKey, s3.get_object, Bucket=b, Key='missing')
fails(s3.exceptions.NoSuchBucket, s3.list_objects_v2, Bucket='no-such-bucket')
fails(s3.exceptions.BucketAlreadyOwnedByYou, s3.create_bucket, Bucket=b)
assert code(s3.delete_bucket, Bucket=b) == 'BucketNotEmpty'
other = session.client('s3', endpoint_url=ENDPOINT, verify=CA, aws_secret_access_key='wrong', aws_access_key_id='wrong')
assert code(other.list_buckets) == 'InvalidAccessKeyId'

step('a thousand deleted at once, and the rest')
found = [{'Key': it['Key']} for page in s3.get_paginator('list_objects_v2').paginate(Bucket=b) for it in page['Contents']]
assert len(found) == len(keys) + 4, len(found)
for at in range(0, len(found), 1_000):
    told = s3.delete_objects(Bucket=b, Delete={'Objects': found[at:at + 1_000]})
    assert 'Errors' not in told and len(told['Deleted']) == len(found[at:at + 1_000])
assert 'Contents' not in s3.list_objects_v2(Bucket=b) and s3.list_multipart_uploads(Bucket=b).get('Uploads', []) == []
s3.delete_bucket(Bucket=b)
assert code(s3.head_bucket, Bucket=b) == '404'
