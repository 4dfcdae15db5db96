"""deltalake: a table whose log lives by conditional puts, written by two processes at once."""

import os
import subprocess
import sys

import obstore
import pyarrow as pa
from common import ACCESS_KEY, CA, ENDPOINT, REGION, SECRET_KEY, SECURE, data, fails, step

if CA:
    os.environ['SSL_CERT_FILE'] = CA

from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake.exceptions import TableNotFoundError
from obstore.store import S3Store

URL = 's3://delta-bucket/tables/people ü'
OPTIONS = {
    'AWS_ENDPOINT_URL': ENDPOINT, 'AWS_REGION': REGION, 'AWS_ACCESS_KEY_ID': ACCESS_KEY, 'AWS_SECRET_ACCESS_KEY': SECRET_KEY,
    'AWS_ALLOW_HTTP': 'false' if SECURE else 'true', 'aws_conditional_put': 'etag', 'aws_virtual_hosted_style_request': 'false'}
# Commits of each process.
ROUNDS = 10
ROWS = 1_000


def rows(writer, number):
    ids = range(number * ROWS, (number + 1) * ROWS)
    return pa.table({
        'writer': pa.array([writer] * ROWS, pa.string()),
        'id': pa.array(ids, pa.int64()),
        'noise': pa.array([data(30, n).hex() for n in ids]),
    })


if len(sys.argv) > 1:
    # One of the two.
    for number in range(ROUNDS):
        write_deltalake(URL, rows(sys.argv[1], number), mode='append', storage_options=OPTIONS,
                        commit_properties=CommitProperties(max_commit_retries=100))
    sys.exit(0)


def table(**more):
    return DeltaTable(URL, storage_options=OPTIONS, **more)


def count(it):
    return it.to_pyarrow_table(columns=['id']).num_rows if hasattr(it, 'to_pyarrow_table') else it.to_table().num_rows


step('no table yet')
fails(TableNotFoundError, table)
write_deltalake(URL, rows('first', 0), storage_options=OPTIONS, partition_by=['writer'])
assert table().version() == 0 and count(table()) == ROWS
fails(Exception, write_deltalake, URL, rows('first', 0), storage_options=OPTIONS, mode='error')

step('two processes append at once: no commit is lost')
writers = [subprocess.Popen([sys.executable, __file__, name]) for name in ['one', 'two']]
assert [writer.wait() for writer in writers] == [0, 0]
now = table()
assert now.version() == 2 * ROUNDS, now.version()
back = now.to_pyarrow_table()
assert back.num_rows == (2 * ROUNDS + 1) * ROWS, back.num_rows
for name in ['one', 'two']:
    mine = now.to_pyarrow_table(filters=[('writer', '=', name)])
    wanted = pa.concat_tables(rows(name, number) for number in range(ROUNDS))
    assert mine.sort_by('id').select(['writer', 'id', 'noise']).to_pydict() == wanted.to_pydict(), name
assert sorted(commit['version'] for commit in now.history()) == list(range(2 * ROUNDS + 1))

step('time travel, delete, update, merge')
assert count(table(version=0)) == ROWS and count(table(version=5)) == 6 * ROWS
now.delete("writer = 'first' AND id < 100")
now.update(predicate="writer = 'one' AND id = 5", updates={'noise': "'changed'"})
now.merge(source=pa.table({'writer': ['two', 'two'], 'id': pa.array([7, 1_000_000], pa.int64()), 'noise': ['merged', 'new']}),
          predicate='t.id = s.id AND t.writer = s.writer', source_alias='s', target_alias='t'
          ).when_matched_update_all().when_not_matched_insert_all().execute()
now = table()
assert count(now) == (2 * ROUNDS + 1) * ROWS - 100 + 1
found = {(row['writer'], row['id']): row['noise'] for row in now.to_pyarrow_table().to_pylist()}
assert found['one', 5] == 'changed' and found['two', 7] == 'merged' and found['two', 1_000_000] == 'new'

step('checkpoint, compaction, vacuum: what is left is whole')
now.create_checkpoint()
now.optimize.compact()
now = table()
files = len(now.file_uris())
assert files <= 4, files
gone = now.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
assert len(gone) >= 2 * ROUNDS, len(gone)
assert {(row['writer'], row['id']): row['noise'] for row in table().to_pyarrow_table().to_pylist()} == found
options = {'allow_http': not SECURE}
store = S3Store('delta-bucket', endpoint=ENDPOINT, region=REGION, access_key_id=ACCESS_KEY, secret_access_key=SECRET_KEY,
                client_options=options)
left = [it['path'] for page in obstore.list(store, prefix='tables') for it in page if it['path'].endswith('.parquet')]
left = [path for path in left if '_delta_log' not in path]
assert len(left) == files, left
