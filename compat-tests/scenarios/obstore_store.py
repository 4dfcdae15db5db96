"""obstore: what table formats and dataframes stand on. Conditional puts, ranges, pages, multipart, signed URLs."""

import asyncio
import datetime
from concurrent.futures import ThreadPoolExecutor

import obstore
from common import ACCESS_KEY, AWKWARD, BIG, CA, ENDPOINT, REGION, SECRET_KEY, SECURE, data, fails, fetch, same, step
from obstore.exceptions import AlreadyExistsError, NotModifiedError, PreconditionError
from obstore.store import S3Store

b = 'obstore-bucket'


def store(**more):
    options = {'allow_http': not SECURE}
    if CA:
        # Its own setting, in PEM.
        with open(CA, 'rb') as file:
            options['root_certificate'] = file.read()
    return S3Store(b, endpoint=ENDPOINT, region=REGION, access_key_id=ACCESS_KEY, secret_access_key=SECRET_KEY,
                   virtual_hosted_style_request=False, client_options=options, retry_config={'max_retries': 0}, **more)


s3 = store()


def get(key, **more):
    return bytes(obstore.get(s3, key, **more).bytes())


step('objects of every size, with attributes')
attributes = {'Content-Type': 'text/x-size', 'Cache-Control': 'max-age=60', 'Content-Disposition': 'inline', 'colour': 'blue'}
for size in [0, 1, 16_385, (3 << 20) + 7, BIG]:
    body = data(size)
    put = obstore.put(s3, f'size/{size}', body, attributes=attributes, chunk_size=5 << 20, max_concurrency=4)
    got = obstore.get(s3, f'size/{size}')
    assert got.meta['size'] == size and got.meta['e_tag'] == put['e_tag'], (got.meta, put)
    assert dict(got.attributes) == attributes, got.attributes
    same(bytes(got.bytes()), body)
    assert obstore.head(s3, f'size/{size}')['e_tag'] == put['e_tag']
assert put['e_tag'].endswith('-5"'), put

step('ranges, one and many at once')
body = data(BIG)
same(bytes(obstore.get_range(s3, f'size/{BIG}', start=5_242_870, length=20)), body[5_242_870:5_242_890])
starts = [0, 10, (5 << 20) - 3, 12_000_000, BIG - 5]
lengths = [5, 1_000, 6, 3_000_000, 5]
for got, start, length in zip(obstore.get_ranges(s3, f'size/{BIG}', starts=starts, lengths=lengths), starts, lengths):
    same(bytes(got), body[start:start + length])
suffix = obstore.get(s3, f'size/{BIG}', options={'range': {'suffix': 77}})
same(bytes(suffix.bytes()), body[-77:])
stream = obstore.get(s3, f'size/{BIG}').stream(min_chunk_size=1 << 20)
same(b''.join(bytes(chunk) for chunk in stream), body)
reader = obstore.open_reader(s3, f'size/{BIG}')
reader.seek(9_999_999)
same(bytes(reader.read(100)), body[9_999_999:10_000_099])
reader.close()

step('conditions: create, update, read')
first = obstore.put(s3, 'condition', b'1', mode='create')
fails(AlreadyExistsError, obstore.put, s3, 'condition', b'2', mode='create')
second = obstore.put(s3, 'condition', b'2', mode={'e_tag': first['e_tag']})
fails(PreconditionError, obstore.put, s3, 'condition', b'3', mode={'e_tag': first['e_tag']})
fails(NotModifiedError, obstore.get, s3, 'condition', options={'if_none_match': second['e_tag']})
fails(PreconditionError, obstore.get, s3, 'condition', options={'if_match': first['e_tag']})
assert get('condition', options={'if_match': second['e_tag']}) == b'2'


def create(number):
    try:
        obstore.put(s3, 'race', b'%d' % number, mode='create')
        return number
    except AlreadyExistsError:
        return None


with ThreadPoolExecutor(16) as pool:
    winners = [number for number in pool.map(create, range(16)) if number is not None]
assert len(winners) == 1 and get('race') == b'%d' % winners[0]

step('a stream of unknown length, and a writer')
obstore.put(s3, 'streamed', (data(1 << 20, n) for n in range(12)), chunk_size=5 << 20)
same(get('streamed'), b''.join(data(1 << 20, n) for n in range(12)))
with obstore.open_writer(s3, 'written', attributes=attributes, buffer_size=5 << 20) as writer:
    for at in range(0, BIG, 999_999):
        writer.write(body[at:at + 999_999])
same(get('written'), body)

step('1,100 keys: pages, offset, delimiter')
keys = [f'many/{n % 4}/{n:04}' for n in range(1_100)] + ['many/' + key for key in AWKWARD if '//' not in key]


async def put_all():
    gate = asyncio.Semaphore(16)

    async def one(key):
        async with gate:
            await obstore.put_async(s3, key, key.encode())

    await asyncio.gather(*map(one, keys))


asyncio.run(put_all())
keys.sort(key=str.encode)
found = [it for page in obstore.list(s3, prefix='many') for it in page]
assert [it['path'] for it in found] == keys
assert {it['path']: it['size'] for it in found} == {key: len(key.encode()) for key in keys}
after = [it['path'] for page in obstore.list(s3, prefix='many', offset='many/3/0500') for it in page]
assert after == [key for key in keys if key.encode() > b'many/3/0500']
tops = obstore.list_with_delimiter(s3, prefix='many')
assert list(tops['common_prefixes']) == sorted({'many/' + key[5:].split('/')[0] for key in keys if '/' in key[5:]}, key=str.encode), tops['common_prefixes']
for key in keys[-20:]:
    assert get(key) == key.encode()

step('copied, renamed')
obstore.copy(s3, f'size/{BIG}', 'copy ü+ %20')
same(get('copy ü+ %20'), body)
assert dict(obstore.get(s3, 'copy ü+ %20').attributes) == attributes
obstore.rename(s3, 'copy ü+ %20', 'renamed')
same(get('renamed'), body)
fails(FileNotFoundError, obstore.head, s3, 'copy ü+ %20')
# A copy that must not replace is a multipart upload that completes on a condition.
careful = store(copy_if_not_exists='multipart')
obstore.copy(careful, 'condition', 'copied once', overwrite=False)
fails(AlreadyExistsError, obstore.copy, careful, 'race', 'copied once', overwrite=False)
assert get('copied once') == b'2'

step('signed URLs')
url = obstore.sign(s3, 'GET', 'condition', expires_in=datetime.timedelta(hours=1))
assert fetch(url)[2] == b'2'
url = obstore.sign(s3, 'PUT', 'by a stranger', expires_in=datetime.timedelta(hours=1))
assert fetch(url, 'PUT', b'hello')[0] == 200 and get('by a stranger') == b'hello'
assert fetch(url.replace('stranger', 'friend'), 'PUT', b'hello')[0] == 403

step('errors, and all deleted at once')
fails(FileNotFoundError, obstore.get, s3, 'missing')
fails(FileNotFoundError, obstore.head, s3, 'missing')
every = [it['path'] for page in obstore.list(s3) for it in page]
assert len(every) == len(keys) + 12, len(every)
obstore.delete(s3, every)
assert [it for page in obstore.list(s3) for it in page] == []
