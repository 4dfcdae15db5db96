import hashlib, io
from botocore.exceptions import ClientError

def refused(code, call, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        got = error.response['Error']['Code']
        assert got == code, (got, code, error.response)
        assert error.response['ResponseMetadata']['RequestId']
        return error.response
    raise AssertionError(f'{call} should have failed with {code}')

b = 'boto3-bucket'
s3.create_bucket(Bucket=b)
refused('BucketAlreadyOwnedByYou', s3.create_bucket, Bucket=b)
# botocore asks for 100-continue, is refused and never sends the body: the connection must not be used
# again, and the answer must say so, or the next request meets a closing connection.
for _ in range(30):
    refused('NoSuchBucket', s3.put_object, Bucket='no-such-bucket', Key='k', Body=b'x')
    refused('NoSuchKey', s3.get_object, Bucket=b, Key='missing')
refused('404', s3.head_object, Bucket=b, Key='missing')

# Sizes at the edges: inline, one chunk, several.
for size in [0, 1, 16384, 16385, 1 << 20, (1 << 20) + 1, (3 << 20) + 7]:
    body = bytes(i * 31 % 251 for i in range(1000)) * (size // 1000 + 1)
    body = body[:size]
    put = s3.put_object(Bucket=b, Key=f'size/{size}', Body=body, ContentType='text/x-size',
                        Metadata={'size': str(size)})
    assert put['ETag'] == '"%s"' % hashlib.md5(body).hexdigest()
    got = s3.get_object(Bucket=b, Key=f'size/{size}')
    assert got['Body'].read() == body, size
    assert got['ContentType'] == 'text/x-size' and got['Metadata'] == {'size': str(size)}
    head = s3.head_object(Bucket=b, Key=f'size/{size}')
    assert head['ContentLength'] == size and head['ETag'] == put['ETag']
    if size > 100:
        part = s3.get_object(Bucket=b, Key=f'size/{size}', Range=f'bytes={size - 100}-')
        assert part['Body'].read() == body[-100:] and part['ResponseMetadata']['HTTPStatusCode'] == 206
        part = s3.get_object(Bucket=b, Key=f'size/{size}', Range='bytes=5-9')
        assert part['Body'].read() == body[5:10]
        assert part['ContentRange'] == f'bytes 5-9/{size}'
        refused('InvalidRange', s3.get_object, Bucket=b, Key=f'size/{size}', Range=f'bytes={size}-')

# Conditions.
etag = s3.put_object(Bucket=b, Key='condition', Body=b'1', IfNoneMatch='*')['ETag']
refused('PreconditionFailed', s3.put_object, Bucket=b, Key='condition', Body=b'2', IfNoneMatch='*')
etag2 = s3.put_object(Bucket=b, Key='condition', Body=b'2', IfMatch=etag)['ETag']
refused('PreconditionFailed', s3.put_object, Bucket=b, Key='condition', Body=b'3', IfMatch=etag)
refused('NoSuchKey', s3.put_object, Bucket=b, Key='missing', Body=b'3', IfMatch=etag)
refused('304', s3.get_object, Bucket=b, Key='condition', IfNoneMatch=etag2)
refused('PreconditionFailed', s3.get_object, Bucket=b, Key='condition', IfMatch=etag)

# Awkward keys, listing with prefixes, delimiters and pages.
keys = sorted(['a b', 'a+b', 'a/1', 'a/2', 'a/b/3', 'ä/ö', 'foo+1/x', 'foo/y', 'p%20q', 'z', '#h', "q'&<>"],
              key=lambda k: k.encode())
for key in keys:
    s3.put_object(Bucket=b, Key='list/' + key, Body=key.encode())
    assert s3.get_object(Bucket=b, Key='list/' + key)['Body'].read() == key.encode()
paginator = s3.get_paginator('list_objects_v2')
for size in [1, 3, 1000]:
    seen = [o['Key'] for page in paginator.paginate(Bucket=b, Prefix='list/', PaginationConfig={'PageSize': size})
            for o in page.get('Contents', [])]
    assert seen == ['list/' + k for k in keys], seen
    seen = []
    for page in paginator.paginate(Bucket=b, Prefix='list/', Delimiter='/', PaginationConfig={'PageSize': size}):
        seen += [o['Key'] for o in page.get('Contents', [])] + [p['Prefix'] for p in page.get('CommonPrefixes', [])]
    naive = sorted({k if '/' not in k else k.split('/')[0] + '/' for k in keys}, key=lambda k: k.encode())
    assert sorted(seen, key=lambda k: k.encode()) == ['list/' + k for k in naive], seen
v1 = s3.list_objects(Bucket=b, Prefix='list/', MaxKeys=2)
assert v1['IsTruncated'] and len(v1['Contents']) == 2
v1 = s3.list_objects(Bucket=b, Prefix='list/', Marker=v1['Contents'][-1]['Key'])
assert [o['Key'] for o in v1['Contents']] == ['list/' + k for k in keys[2:]]

# Multipart by hand.
upload = s3.create_multipart_upload(Bucket=b, Key='multi', Metadata={'m': '1'})['UploadId']
parts = [b'a' * (5 << 20), b'b' * (6 << 20), b'tail']
tags = [s3.upload_part(Bucket=b, Key='multi', UploadId=upload, PartNumber=n, Body=body)['ETag']
        for n, body in enumerate(parts, 1)]
assert len(s3.list_parts(Bucket=b, Key='multi', UploadId=upload)['Parts']) == 3
assert [u['Key'] for u in s3.list_multipart_uploads(Bucket=b)['Uploads']] == ['multi']
named = [{'PartNumber': n, 'ETag': tag} for n, tag in enumerate(tags, 1)]
refused('InvalidPart', s3.complete_multipart_upload, Bucket=b, Key='multi', UploadId=upload,
        MultipartUpload={'Parts': [{'PartNumber': 1, 'ETag': tags[1]}]})
refused('InvalidPartOrder', s3.complete_multipart_upload, Bucket=b, Key='multi', UploadId=upload,
        MultipartUpload={'Parts': named[::-1]})
done = s3.complete_multipart_upload(Bucket=b, Key='multi', UploadId=upload, MultipartUpload={'Parts': named})
again = s3.complete_multipart_upload(Bucket=b, Key='multi', UploadId=upload, MultipartUpload={'Parts': named})
assert done['ETag'] == again['ETag'] and done['ETag'].endswith('-3"')
got = s3.get_object(Bucket=b, Key='multi')
assert got['Body'].read() == b''.join(parts) and got['Metadata'] == {'m': '1'}
across = s3.get_object(Bucket=b, Key='multi', Range='bytes=5242870-5242889')['Body'].read()
assert across == b'a' * 10 + b'b' * 10
upload = s3.create_multipart_upload(Bucket=b, Key='dropped')['UploadId']
s3.abort_multipart_upload(Bucket=b, Key='dropped', UploadId=upload)
refused('NoSuchUpload', s3.list_parts, Bucket=b, Key='dropped', UploadId=upload)

# The transfer manager, up and down.
big = os.urandom(17 << 20)
s3.upload_fileobj(io.BytesIO(big), b, 'transfer')
out = io.BytesIO()
s3.download_fileobj(b, 'transfer', out)
assert out.getvalue() == big

# Copies: small and large, with the source's words or others, of objects put in one piece and in parts.
def md5(body):
    return '"%s"' % hashlib.md5(body).hexdigest()

for size in [0, 1, 16385, (3 << 20) + 7]:
    source = {'Bucket': b, 'Key': f'size/{size}'}
    body = s3.get_object(**source)['Body'].read()
    copied = s3.copy_object(Bucket=b, Key='copied ü+', CopySource=source)['CopyObjectResult']
    got = s3.get_object(Bucket=b, Key='copied ü+')
    assert got['Body'].read() == body and got['ETag'] == copied['ETag'] == md5(body), size
    # The header has whole seconds.
    assert got['LastModified'] == copied['LastModified'].replace(microsecond=0)
    assert got['ContentType'] == 'text/x-size' and got['Metadata'] == {'size': str(size)}
changed = s3.copy_object(Bucket=b, Key='copied ü+', CopySource=f'{b}/size/1', MetadataDirective='REPLACE',
                         Metadata={'other': 'words'}, ContentType='image/png', TaggingDirective='REPLACE',
                         Tagging='a=b', ChecksumAlgorithm='SHA256')['CopyObjectResult']
got = s3.get_object(Bucket=b, Key='copied ü+', ChecksumMode='ENABLED')
assert got['Metadata'] == {'other': 'words'} and got['ContentType'] == 'image/png' and got['Body'].read() == b'\0'
assert got['ChecksumSHA256'] == changed['ChecksumSHA256']
whole = b''.join(parts)
joined = s3.copy_object(Bucket=b, Key='one', CopySource={'Bucket': b, 'Key': 'multi'})['CopyObjectResult']
got = s3.get_object(Bucket=b, Key='one')
assert joined['ETag'] == got['ETag'] == md5(whole) and got['Body'].read() == whole
assert got['Metadata'] == {'m': '1'}
itself = {'Bucket': b, 'Key': 'one', 'CopySource': {'Bucket': b, 'Key': 'one'}}
refused('InvalidRequest', s3.copy_object, **itself)
s3.copy_object(**itself, MetadataDirective='REPLACE', Metadata={'m': '2'})
got = s3.get_object(Bucket=b, Key='one')
assert got['Metadata'] == {'m': '2'} and got['ETag'] == md5(whole) and got['Body'].read() == whole
small = {'Bucket': b, 'Key': 'size/1', 'CopySource': {'Bucket': b, 'Key': 'size/1'}}
s3.copy_object(**small, MetadataDirective='REPLACE', ContentType='text/changed')
got = s3.get_object(Bucket=b, Key='size/1')
assert got['ContentType'] == 'text/changed' and got['Body'].read() == b'\0'
one = {'Bucket': b, 'Key': 'x', 'CopySource': {'Bucket': b, 'Key': 'one'}}
refused('PreconditionFailed', s3.copy_object, **one, CopySourceIfMatch=etag)
refused('PreconditionFailed', s3.copy_object, **one, CopySourceIfNoneMatch=md5(whole))
refused('PreconditionFailed', s3.copy_object, Bucket=b, Key='one', CopySource=f'{b}/size/1', IfNoneMatch='*')
refused('NoSuchKey', s3.copy_object, Bucket=b, Key='x', CopySource=f'{b}/missing')
refused('NoSuchBucket', s3.copy_object, Bucket=b, Key='x', CopySource='no-such-bucket/k')
refused('NoSuchBucket', s3.copy_object, Bucket='no-such-bucket', Key='x', CopySource=f'{b}/one')
refused('InvalidArgument', s3.copy_object, Bucket=b, Key='x', CopySource=f'{b}/one?versionId=abc')

# Parts of copies.
upload = s3.create_multipart_upload(Bucket=b, Key='pieces', ChecksumAlgorithm='CRC32')['UploadId']
piece = {'Bucket': b, 'Key': 'pieces', 'UploadId': upload, 'CopySource': {'Bucket': b, 'Key': 'multi'}}
ends = [(0, len(whole) - 1), (5, (6 << 20) + 4), (len(whole) - 7, len(whole) - 1)]
named = []
for n, (first, last) in enumerate(ends, 1):
    result = s3.upload_part_copy(**piece, PartNumber=n, CopySourceRange=f'bytes={first}-{last}')['CopyPartResult']
    assert result['ETag'] == md5(whole[first:last + 1]) and result['ChecksumCRC32']
    named.append({'PartNumber': n, 'ETag': result['ETag'], 'ChecksumCRC32': result['ChecksumCRC32']})
refused('InvalidRange', s3.upload_part_copy, **piece, PartNumber=4, CopySourceRange=f'bytes=0-{len(whole)}')
refused('InvalidArgument', s3.upload_part_copy, **piece, PartNumber=4, CopySourceRange='bytes=0-')
s3.complete_multipart_upload(Bucket=b, Key='pieces', UploadId=upload, MultipartUpload={'Parts': named})
got = s3.get_object(Bucket=b, Key='pieces')['Body'].read()
assert got == b''.join(whole[first:last + 1] for first, last in ends)

# The transfer manager copies by parts beyond its threshold.
from boto3.s3.transfer import TransferConfig
s3.copy({'Bucket': b, 'Key': 'transfer'}, b, 'transferred',
        Config=TransferConfig(multipart_threshold=8 << 20, multipart_chunksize=5 << 20))
got = s3.get_object(Bucket=b, Key='transferred')
assert got['Body'].read() == big and got['ETag'].endswith('-4"')

# A presigned URL, fetched without credentials. (For custom endpoints boto3 signs by SigV2 unless told.)
import urllib.request, urllib.error
v4 = boto3.client('s3', endpoint_url=os.environ['ENDPOINT'],
                  config=Config(signature_version='s3v4', s3={'addressing_style': 'path'}))
url = v4.generate_presigned_url('get_object', Params={'Bucket': b, 'Key': 'condition'}, ExpiresIn=60)
assert urllib.request.urlopen(url).read() == b'2'
try:
    urllib.request.urlopen(url.split('?')[0])
    raise AssertionError('unsigned requests are refused')
except urllib.error.HTTPError as error:
    assert error.code == 403 and b'AccessDenied' in error.read()

# Deleting, one by one and many at once.
refused('BucketNotEmpty', s3.delete_bucket, Bucket=b)
s3.delete_object(Bucket=b, Key='condition')
s3.delete_object(Bucket=b, Key='condition')
for page in paginator.paginate(Bucket=b):
    objects = [{'Key': o['Key']} for o in page['Contents']]
    deleted = s3.delete_objects(Bucket=b, Delete={'Objects': objects})
    assert len(deleted['Deleted']) == len(objects) and 'Errors' not in deleted
assert s3.list_objects_v2(Bucket=b)['KeyCount'] == 0
s3.delete_bucket(Bucket=b)
assert s3.list_buckets()['Buckets'] == []
refused('NoSuchBucket', s3.list_objects_v2, Bucket=b)
