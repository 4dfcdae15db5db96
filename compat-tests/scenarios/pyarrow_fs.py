"""pyarrow's S3FileSystem: streams, Parquet datasets by projection and filter, folders, metadata."""

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.dataset as ds
import pyarrow.fs as fs
import pyarrow.parquet as pq
from common import ACCESS_KEY, AWKWARD, BIG, CA, HOST, REGION, SECRET_KEY, SECURE, data, fails, same, step

more = {'tls_ca_file_path': CA} if CA else {}
s3 = fs.S3FileSystem(
    access_key=ACCESS_KEY, secret_key=SECRET_KEY, region=REGION, endpoint_override=HOST, scheme='https' if SECURE else 'http',
    allow_bucket_creation=True, allow_bucket_deletion=True, retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=1), **more)
b = 'pyarrow-bucket'
s3.create_dir(b)


def get(key):
    with s3.open_input_stream(f'{b}/{key}') as stream:
        return stream.read()


step('streams of every size: of no length, chunked, with a trailer')
for size in [0, 1, 16_385, (3 << 20) + 7, (10 << 20) + 1, BIG]:
    with s3.open_output_stream(f'{b}/size/{size}', metadata={'Content-Type': 'text/x-size', 'Cache-Control': 'max-age=60'}) as stream:
        body = data(size)
        for at in range(0, size, 1 << 20):
            stream.write(body[at:at + (1 << 20)])
    same(get(f'size/{size}'), body)
    info = s3.get_file_info(f'{b}/size/{size}')
    assert (info.type, info.size) == (fs.FileType.File, size) and info.mtime is not None
    with s3.open_input_stream(f'{b}/size/{size}') as stream:
        told = stream.metadata()
    assert told['Content-Type'] == b'text/x-size' and told['Cache-Control'] == b'max-age=60', told
step('reading here and there')
body = data(BIG)
with s3.open_input_file(f'{b}/size/{BIG}') as file:
    assert file.size() == BIG
    for first, length in [(0, 1), (BIG - 7, 7), ((5 << 20) - 3, 6), (10_485_759, 3_000_000)]:
        same(file.read_at(length, first), body[first:first + length])
    file.seek(123)
    same(file.read(1_000), body[123:1_123])

step('a table as one Parquet file, read by projection and by row group')
rows = 300_000
table = pa.table({
    'id': pa.array(range(rows), pa.int64()),
    'city': pa.array([['Berlin', 'Tōkyō', 'São Paulo'][n % 3] for n in range(rows)]).dictionary_encode(),
    'value': pa.array([n * 0.5 for n in range(rows)]),
    'noise': pa.array([data(40, n) for n in range(rows)], pa.binary()),
})
pq.write_table(table, f'{b}/table.parquet', filesystem=s3, row_group_size=50_000)
back = pq.read_table(f'{b}/table.parquet', filesystem=s3)
assert back.cast(table.schema).equals(table)
some = pq.read_table(f'{b}/table.parquet', filesystem=s3, columns=['value'], filters=[('id', '>=', 299_000)])
assert some.num_rows == 1_000 and some['value'][0].as_py() == 149_500.0
file = pq.ParquetFile(f'{b}/table.parquet', filesystem=s3, pre_buffer=True)
assert file.num_row_groups == 6 and file.read_row_group(4, columns=['id'])['id'][0].as_py() == 200_000

step('a dataset in folders, with a filter that leaves files alone; CSV too')
ds.write_dataset(table, f'{b}/set', filesystem=s3, format='parquet', max_rows_per_file=20_000, max_rows_per_group=20_000,
                 partitioning=ds.partitioning(pa.schema([('city', pa.dictionary(pa.int32(), pa.string()))]), flavor='hive'))
dataset = ds.dataset(f'{b}/set', filesystem=s3, format='parquet', partitioning='hive')
assert dataset.count_rows() == rows and len(dataset.files) == 15, dataset.files
tokyo = dataset.to_table(columns=['id', 'value'], filter=(pc.field('city') == 'Tōkyō') & (pc.field('id') < 3_000))
assert tokyo.num_rows == 1_000 and pc.sum(tokyo['id']).as_py() == sum(range(1, 3_000, 3))
with s3.open_output_stream(f'{b}/table.csv') as stream:
    pyarrow.csv.write_csv(table.select(['id', 'value']), stream)
with s3.open_input_stream(f'{b}/table.csv') as stream:
    assert pyarrow.csv.read_csv(stream).equals(table.select(['id', 'value']))

step('1,100 files, and keys of every kind')
for number in range(1_100):
    with s3.open_output_stream(f'{b}/many/{number % 4}/{number:04}') as stream:
        stream.write(b'%d' % number)
infos = s3.get_file_info(fs.FileSelector(f'{b}/many', recursive=True))
files = sorted(it.path for it in infos if it.type == fs.FileType.File)
assert files == sorted(f'{b}/many/{n % 4}/{n:04}' for n in range(1_100))
assert sorted(it.path for it in infos if it.type == fs.FileType.Directory) == [f'{b}/many/{n}' for n in range(4)]
assert len(s3.get_file_info(fs.FileSelector(f'{b}/many'))) == 4
names = [key for key in AWKWARD if '//' not in key]
for key in names:
    with s3.open_output_stream(f'{b}/odd/{key}') as stream:
        stream.write(key.encode())
    assert get(f'odd/{key}') == key.encode()
found = [it.path for it in s3.get_file_info(fs.FileSelector(f'{b}/odd', recursive=True)) if it.type == fs.FileType.File]
assert sorted(found) == sorted(f'{b}/odd/{key}' for key in names), found

step('copied, moved, deleted')
s3.copy_file(f'{b}/size/{BIG}', f'{b}/copy ü+')
same(get('copy ü+'), body)
s3.move(f'{b}/copy ü+', f'{b}/moved')
same(get('moved'), body)
assert s3.get_file_info(f'{b}/copy ü+').type == fs.FileType.NotFound
fs.copy_files(f'{b}/set', f'{b}/set copied', source_filesystem=s3, destination_filesystem=s3)
assert ds.dataset(f'{b}/set copied', filesystem=s3, partitioning='hive').count_rows() == rows
s3.delete_file(f'{b}/moved')
s3.create_dir(f'{b}/empty/folder')
assert s3.get_file_info(f'{b}/empty/folder').type == fs.FileType.Directory

step('errors')
fails(FileNotFoundError, s3.open_input_stream, f'{b}/missing')
fails(FileNotFoundError, s3.open_input_file, 'no-such-bucket/missing')
fails(FileNotFoundError, s3.get_file_info, fs.FileSelector(f'{b}/nothing here'))
wrong = fs.S3FileSystem(access_key=ACCESS_KEY, secret_key='wrong', region=REGION, endpoint_override=HOST, scheme='https' if SECURE else 'http', **more)
assert 'SignatureDoesNotMatch' in str(fails(OSError, wrong.open_input_stream, f'{b}/size/1')) or 'ACCESS_DENIED' in str(fails(OSError, wrong.open_input_stream, f'{b}/size/1'))

step('all deleted')
s3.delete_dir_contents(b)
assert s3.get_file_info(fs.FileSelector(b, recursive=True)) == []
s3.delete_dir(b)
assert s3.get_file_info(b).type == fs.FileType.NotFound
