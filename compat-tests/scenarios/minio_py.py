"""minio-py: objects of known and unknown length, pages, copies, composed objects, presigned requests."""

import datetime
import io
import os

from common import ACCESS_KEY, AWKWARD, BIG, CA, HOST, SECRET_KEY, SECURE, data, fails, fetch, same, step

if CA:
    # Its own setting; it reads it when a client is made.
    os.environ['SSL_CERT_FILE'] = CA

from concurrent.futures import ThreadPoolExecutor

from minio import Minio
from minio.commonconfig import REPLACE, ComposeSource, CopySource, Tags
from minio.deleteobjects import DeleteObject
from minio.error import S3Error

client = Minio(endpoint=HOST, access_key=ACCESS_KEY, secret_key=SECRET_KEY, secure=SECURE, region='us-east-1')
b = 'minio-py'
client.make_bucket(bucket_name=b)
assert client.bucket_exists(bucket_name=b) and not client.bucket_exists(bucket_name='no-such-bucket')
assert [it.name for it in client.list_buckets()] == [b]


def code(call, **arguments):
    return fails(S3Error, call, **arguments).code


def get(key, **more):
    answer = client.get_object(bucket_name=b, object_name=key, **more)
    try:
        return answer.read()
    finally:
        answer.close()
        answer.release_conn()


step('objects of every size, with words')
tags = Tags.new_object_tags()
tags['project'] = 'trine'
for size in [0, 1, 16_385, (3 << 20) + 7, BIG]:
    body = data(size)
    put = client.put_object(bucket_name=b, object_name=f'size/{size}', data=io.BytesIO(body), length=size, part_size=5 << 20,
                            content_type='text/x-size', metadata={'colour': 'blue'}, tags=tags)
    same(get(f'size/{size}'), body)
    stat = client.stat_object(bucket_name=b, object_name=f'size/{size}')
    assert (stat.size, stat.etag, stat.content_type) == (size, put.etag, 'text/x-size'), stat
    assert stat.metadata['x-amz-meta-colour'] == 'blue', stat.metadata
    assert client.get_object_tags(bucket_name=b, object_name=f'size/{size}') == tags
same(get(f'size/{BIG}', offset=5_242_870, length=20), data(BIG)[5_242_870:5_242_890])

step('a stream of unknown length, and one that is a single small part')
for size in [(11 << 20) + 3, 10]:
    client.put_object(bucket_name=b, object_name='unknown', data=io.BytesIO(data(size)), length=-1, part_size=5 << 20)
    same(get('unknown'), data(size))

step('files')
with open('file', 'wb') as file:
    file.write(data(BIG, 2))
client.fput_object(bucket_name=b, object_name='file +ü', file_path='file', part_size=5 << 20, num_parallel_uploads=4)
client.fget_object(bucket_name=b, object_name='file +ü', file_path='back')
with open('back', 'rb') as file:
    same(file.read(), data(BIG, 2))

step('1,100 keys')
keys = [f'many/{n:04}' for n in range(1_100)] + ['many/' + key for key in AWKWARD if '//' not in key]


def put(key):
    client.put_object(bucket_name=b, object_name=key, data=io.BytesIO(key.encode()), length=len(key.encode()))


with ThreadPoolExecutor(8) as pool:
    list(pool.map(put, keys))
found = [it.object_name for it in client.list_objects(bucket_name=b, prefix='many/', recursive=True)]
assert found == sorted(keys, key=str.encode)
assert [it.object_name for it in client.list_objects(bucket_name=b, prefix='many/', recursive=True, use_api_v1=True)] == found
tops = {it.object_name: it.is_dir for it in client.list_objects(bucket_name=b)}
assert tops == {'file +ü': False, 'many/': True, 'size/': True, 'unknown': False}, tops
for key in keys[-len(AWKWARD) + 1:]:
    assert get(key) == key.encode()

step('copies, and one object composed of others')
client.copy_object(bucket_name=b, object_name='copy', source=CopySource(bucket_name=b, object_name='file +ü'))
same(get('copy'), data(BIG, 2))
client.copy_object(bucket_name=b, object_name='copy', source=CopySource(bucket_name=b, object_name='copy'), metadata_directive=REPLACE, metadata={'colour': 'red'})
assert client.stat_object(bucket_name=b, object_name='copy').metadata['x-amz-meta-colour'] == 'red'
client.compose_object(bucket_name=b, object_name='composed', sources=[
    ComposeSource(bucket_name=b, object_name=f'size/{BIG}'), ComposeSource(bucket_name=b, object_name='file +ü', offset=5, length=6 << 20),
    ComposeSource(bucket_name=b, object_name='size/1')])
same(get('composed'), data(BIG) + data(BIG, 2)[5:5 + (6 << 20)] + data(1))

step('presigned requests')
status, _, got = fetch(client.presigned_get_object(bucket_name=b, object_name='file +ü', expires=datetime.timedelta(hours=1)))
assert status == 200
same(got, data(BIG, 2))
url = client.presigned_put_object(bucket_name=b, object_name='by a stranger', expires=datetime.timedelta(hours=1))
assert fetch(url, 'PUT', b'hello')[0] == 200 and get('by a stranger') == b'hello'
assert fetch(url + '&extra=1', 'PUT', b'hello')[0] == 403

step('errors')
assert code(client.get_object, bucket_name=b, object_name='missing') == 'NoSuchKey'
assert code(client.stat_object, bucket_name=b, object_name='missing') == 'NoSuchKey'
assert code(client.make_bucket, bucket_name=b) == 'BucketAlreadyOwnedByYou'
assert code(client.remove_bucket, bucket_name=b) == 'BucketNotEmpty'
assert code(client.get_bucket_policy, bucket_name=b) == 'NoSuchBucketPolicy'
assert client.get_bucket_versioning(bucket_name=b).status_string == 'Off'

step('all deleted')
every = [DeleteObject(it.object_name) for it in client.list_objects(bucket_name=b, recursive=True)]
assert len(every) == len(keys) + 10, len(every)
assert list(client.remove_objects(bucket_name=b, delete_object_list=every)) == []
assert list(client.list_objects(bucket_name=b)) == []
client.remove_bucket(bucket_name=b)
assert client.list_buckets() == []
