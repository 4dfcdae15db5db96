"""DuckDB with httpfs: Parquet and CSV over s3://, read by ranges and written by multipart."""

import duckdb
from common import ACCESS_KEY, BIG, CA, HOST, REGION, SECRET_KEY, SECURE, data, fails, same, step
from duckdb_extensions import import_extension

b = 's3://duckdb-bucket'
import_extension('httpfs')


def connect():
    db = duckdb.connect()
    db.execute('LOAD httpfs')
    # Failures are to be seen.
    db.execute('SET http_retries = 0')
    if CA:
        # For ATTACH, which does not look at what holds for one connection.
        db.execute(f"SET GLOBAL ca_cert_file = '{CA}'")
        db.execute('SET GLOBAL enable_server_cert_verification = true')
    db.execute(f"""CREATE SECRET (TYPE s3, KEY_ID '{ACCESS_KEY}', SECRET '{SECRET_KEY}', REGION '{REGION}',
        ENDPOINT '{HOST}', URL_STYLE 'path', USE_SSL {'true' if SECURE else 'false'})""")
    return db


db = connect()


def one(query, on=None):
    return (on or db).execute(query).fetchone()


step('a table of a million rows as Parquet, in parts; read by projection and filter')
# The second column does not compress: the file is large.
db.execute("""CREATE TABLE numbers AS SELECT i AS id, md5(i::VARCHAR) AS noise, i % 3 AS kind, i * 0.5 AS value,
    'row ü+ ' || (i % 1000) AS words FROM range(1000000) t(i)""")
db.execute(f"COPY numbers TO '{b}/numbers.parquet' (FORMAT parquet, ROW_GROUP_SIZE 50000)")
size = one(f"SELECT sum(total_compressed_size) FROM parquet_metadata('{b}/numbers.parquet')")[0]
assert size > 16 << 20, size
other = connect()
assert one(f"SELECT count(*), sum(id), sum(value) FROM '{b}/numbers.parquet'", other) == one('SELECT count(*), sum(id), sum(value) FROM numbers')
assert one(f"SELECT noise FROM '{b}/numbers.parquet' WHERE id = 777777", other) == one('SELECT md5(777777::VARCHAR)')
assert one(f"SELECT count(*) FROM ((SELECT * FROM '{b}/numbers.parquet') EXCEPT (SELECT * FROM numbers))") == (0,)
# A filter on row groups reads a part of the file only, by a connection that has none of it in its cache.
other = connect()
other.execute("CALL enable_logging('HTTP')")
assert one(f"SELECT sum(value) FROM '{b}/numbers.parquet' WHERE id BETWEEN 100 AND 199", other) == (7475.0,)
asked = other.execute("SELECT request.headers['Range'], response.status FROM duckdb_logs_parsed('HTTP') WHERE request.type = 'GET'").fetchall()
assert asked and all('206' in str(status) or 'Partial' in str(status) for _, status in asked), asked
read = sum(int(end) - int(start) + 1 for start, end in (range_[6:].split('-') for range_, _ in asked))
assert read < size / 4, (read, size)

step('CSV and JSON, compressed too')
db.execute(f"COPY (SELECT * FROM numbers LIMIT 50000) TO '{b}/numbers.csv' (HEADER)")
assert one(f"SELECT count(*), sum(id) FROM read_csv('{b}/numbers.csv')") == (50000, 1249975000)
db.execute(f"COPY (SELECT * FROM numbers LIMIT 50000) TO '{b}/numbers.csv.gz' (HEADER)")
assert one(f"SELECT count(*), sum(id) FROM '{b}/numbers.csv.gz'") == (50000, 1249975000)
db.execute(f"COPY (SELECT * FROM numbers LIMIT 1000) TO '{b}/numbers.json'")
assert one(f"SELECT sum(id) FROM '{b}/numbers.json'") == (499500,)

step('1,100 files through one glob, more than a page of a listing')
db.execute(f"COPY (SELECT id, value, id % 1100 AS part FROM numbers WHERE id < 11000) TO '{b}/parts' (FORMAT parquet, PARTITION_BY part)")
assert one(f"SELECT count(*) FROM glob('{b}/parts/*/*.parquet')") == (1100,)
assert one(f"SELECT count(*), sum(id), count(DISTINCT part) FROM read_parquet('{b}/parts/**/*.parquet', hive_partitioning = true)") == (11000, 60494500, 1100)
assert one(f"SELECT sum(id) FROM read_parquet('{b}/parts/*/*.parquet', hive_partitioning = true) WHERE part = 77") == one('SELECT sum(id) FROM numbers WHERE id < 11000 AND id % 1100 = 77')

step('names that need care, an empty result, a file replaced')
for name in ['a b+c/ü %20.parquet', 'x&y=z.parquet']:
    db.execute(f"COPY (SELECT 42 AS n) TO '{b}/odd/{name}' (FORMAT parquet)")
    assert one(f"SELECT n FROM '{b}/odd/{name}'") == (42,)
db.execute(f"COPY (SELECT 1 AS n WHERE false) TO '{b}/empty.parquet' (FORMAT parquet)")
assert one(f"SELECT count(*) FROM '{b}/empty.parquet'") == (0,)
db.execute(f"COPY (SELECT 2 AS n) TO '{b}/empty.parquet' (FORMAT parquet)")
assert one(f"SELECT n FROM '{b}/empty.parquet'", connect()) == (2,)

step('a database file, attached as it lies there')
local = duckdb.connect('local.duckdb')
local.execute('CREATE TABLE t AS SELECT i FROM range(200000) r(i)')
local.close()
with open('local.duckdb', 'rb') as file:
    image = file.read()
db.execute(f"COPY (SELECT content FROM read_blob('local.duckdb')) TO '{b}/remote.duckdb' (FORMAT blob)")
same(one(f"SELECT content FROM read_blob('{b}/remote.duckdb')")[0], image)
db.execute(f"ATTACH '{b}/remote.duckdb' AS remote (READ_ONLY)")
assert one('SELECT count(*), sum(i) FROM remote.t') == (200000, 19999900000)

step('errors')
assert '404' in str(fails(duckdb.Error, db.execute, f"SELECT * FROM '{b}/missing.parquet'"))
assert 'No files found' in str(fails(duckdb.Error, db.execute, f"SELECT * FROM '{b}/missing/*.parquet'"))
assert '404' in str(fails(duckdb.Error, db.execute, "SELECT * FROM 's3://no-such-bucket/x.parquet'"))
