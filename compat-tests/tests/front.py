import hashlib
from botocore.exceptions import ClientError

s3 = boto3.client('s3', endpoint_url=os.environ['ENDPOINT'], config=Config(
    signature_version='s3v4', retries={'max_attempts': 0}, s3={'addressing_style': 'path'}))
b = 'front-bucket'
s3.create_bucket(Bucket=b)

def code(call, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        return error.response['Error']['Code']
    return 'none'

# What tools ask of a bucket before they work.
for call, expected in [
    (s3.get_bucket_policy, 'NoSuchBucketPolicy'),
    (s3.get_bucket_policy_status, 'NoSuchBucketPolicy'),
    (s3.get_bucket_cors, 'NoSuchCORSConfiguration'),
    (s3.get_bucket_lifecycle_configuration, 'NoSuchLifecycleConfiguration'),
    (s3.get_object_lock_configuration, 'ObjectLockConfigurationNotFoundError'),
    (s3.get_bucket_tagging, 'NoSuchTagSet'),
    (s3.get_bucket_encryption, 'ServerSideEncryptionConfigurationNotFoundError'),
    (s3.get_bucket_website, 'NoSuchWebsiteConfiguration'),
    (s3.get_bucket_replication, 'ReplicationConfigurationNotFoundError'),
    (s3.get_bucket_ownership_controls, 'OwnershipControlsNotFoundError'),
    (s3.get_public_access_block, 'NoSuchPublicAccessBlockConfiguration'),
    (s3.get_bucket_location, 'none'),
    (s3.get_bucket_acl, 'none'),
    (s3.get_bucket_versioning, 'none'),
    (s3.get_bucket_logging, 'none'),
    (s3.get_bucket_notification_configuration, 'none'),
    (s3.get_bucket_accelerate_configuration, 'none'),
    (s3.get_bucket_request_payment, 'none'),
    (s3.delete_bucket_policy, 'none'),
    (s3.delete_bucket_cors, 'none'),
    (s3.delete_bucket_lifecycle, 'none'),
    (s3.delete_bucket_tagging, 'none'),
    (s3.delete_bucket_encryption, 'none'),
    (s3.delete_bucket_website, 'none'),
    (s3.delete_bucket_replication, 'none'),
    (s3.delete_bucket_ownership_controls, 'none'),
    (s3.delete_public_access_block, 'none'),
]:
    assert code(call, Bucket=b) == expected, (call, code(call, Bucket=b))
    assert code(call, Bucket='no-such-bucket') == 'NoSuchBucket', call
assert 'Status' not in s3.get_bucket_versioning(Bucket=b)
assert s3.get_bucket_acl(Bucket=b)['Grants'][0]['Permission'] == 'FULL_CONTROL'
assert s3.get_bucket_request_payment(Bucket=b)['Payer'] == 'BucketOwner'
assert code(s3.list_object_versions, Bucket=b) == 'NotImplemented'

# Keys that something on the way might mistake for something else.
keys = [f'a{chr(at)}b' for at in range(128)] + [
    '/', '//', 'a//b', '../x', '..', '.', '+', 'a+b c', '%2F', '%', 'é', '😀', '\u2028',
    'k' * 1024, '&amp;', '<a>', ']]>', '?x=y', '#', 'a\r\nb']
keys = sorted(set(keys), key=str.encode)
for key in keys:
    s3.put_object(Bucket=b, Key=key, Body=key.encode())
    assert s3.get_object(Bucket=b, Key=key)['Body'].read() == key.encode(), key
for operation in ['list_objects_v2', 'list_objects']:
    pages = s3.get_paginator(operation).paginate(Bucket=b, PaginationConfig={'PageSize': 10})
    assert [it['Key'] for page in pages for it in page['Contents']] == keys, operation
for at in range(0, len(keys), 50):
    some = [{'Key': key} for key in keys[at:at + 50]]
    assert 'Errors' not in s3.delete_objects(Bucket=b, Delete={'Objects': some}), some
assert 'Contents' not in s3.list_objects_v2(Bucket=b)

# Checksums of what is put in parts.
first, second = bytes(5 << 20), bytes(range(256)) * 20_000 * 2
for algorithm, kind in [('CRC32', 'FULL_OBJECT'), ('CRC32', 'COMPOSITE'),
                        ('SHA1', 'COMPOSITE'), ('SHA256', 'COMPOSITE')]:
    name = f'Checksum{algorithm}'
    upload = s3.create_multipart_upload(
        Bucket=b, Key='joined', ChecksumAlgorithm=algorithm, ChecksumType=kind)['UploadId']
    parts = []
    for number, body in [(1, first), (2, second), (3, b'tail')]:
        put = s3.upload_part(Bucket=b, Key='joined', UploadId=upload, PartNumber=number, Body=body,
                             ChecksumAlgorithm=algorithm)
        parts.append({'PartNumber': number, 'ETag': put['ETag'], name: put[name]})
    done = s3.complete_multipart_upload(
        Bucket=b, Key='joined', UploadId=upload, MultipartUpload={'Parts': parts})
    head = s3.head_object(Bucket=b, Key='joined', ChecksumMode='ENABLED')
    assert head[name] == done[name] and head['ChecksumType'] == kind, (head, done)
    assert head[name].endswith('-3') == (kind == 'COMPOSITE'), head
    part = s3.get_object(Bucket=b, Key='joined', ChecksumMode='ENABLED', PartNumber=2)
    assert part['Body'].read() == second and part[name] == parts[1][name], part
    told = s3.get_object_attributes(
        Bucket=b, Key='joined', MaxParts=2,
        ObjectAttributes=['ETag', 'Checksum', 'ObjectParts', 'ObjectSize', 'StorageClass'])
    assert told['Checksum'][name] == head[name].split('-')[0], told
    assert told['ObjectSize'] == len(first) + len(second) + 4, told
    assert told['ObjectParts']['TotalPartsCount'] == 3 and told['ObjectParts']['IsTruncated'], told
    assert [it[name] for it in told['ObjectParts']['Parts']] == [it[name] for it in parts[:2]]
s3.put_object(Bucket=b, Key='tagged', Body=b'x', Tagging='a=1&b=%3C2%3E')
assert s3.get_object_tagging(Bucket=b, Key='tagged')['TagSet'] == [
    {'Key': 'a', 'Value': '1'}, {'Key': 'b', 'Value': '<2>'}]

# Presigned: signature version 4 in the query.
import urllib.error, urllib.request
url = s3.generate_presigned_url('get_object', {'Bucket': b, 'Key': 'tagged'}, ExpiresIn=604_800)
assert urllib.request.urlopen(url).read() == b'x'
try:
    urllib.request.urlopen(url.replace('X-Amz-Expires=604800', 'X-Amz-Expires=604801'))
    raise AssertionError('a week is the most')
except urllib.error.HTTPError as error:
    assert error.code == 400 and b'AuthorizationQueryParametersError' in error.read()
