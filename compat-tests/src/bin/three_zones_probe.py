# Two writers and two readers at one gateway, until standard input ends. Each success is a line
# `client kind time` in the log, each failure one with `failed` in it. Nothing is retried.
import os, sys, threading, time
import boto3
from botocore.config import Config

log = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
name = sys.argv[2]
s3 = boto3.client('s3', endpoint_url=os.environ['ENDPOINT'],
                  config=Config(retries={'max_attempts': 0}, s3={'addressing_style': 'path'},
                                connect_timeout=3, read_timeout=3, max_pool_connections=8))
over = threading.Event()
# One goes with the record itself, the other in chunks to every zone.
SIZES = {'small': 4000, 'large': 300000}

def body(key, size):
    return (key.encode() + b' ') * (size // (len(key) + 1) + 1)

def run(client, kind, step):
    n = 0
    while not over.is_set():
        try:
            step(n)
            line = f'{client} {kind} {time.time():.6f}'
        except Exception as error:
            line = f'{client} {kind} {time.time():.6f} failed {n}: {error!r}'
        os.write(log, (line + '\n').encode())
        n += 1
        time.sleep(0.005)

written = {size: [] for size in SIZES}

def write(size):
    def step(n):
        key = f'{name}/{size}/{n}'
        s3.put_object(Bucket='load', Key=key, Body=body(key, SIZES[size]))
        written[size].append(key)
    return step

def read(size):
    def step(n):
        keys = written[size]
        while not keys:
            if over.is_set():
                raise TimeoutError('nothing was ever written')
            time.sleep(0.01)
        key = keys[n * 7919 % len(keys)]
        got = s3.get_object(Bucket='load', Key=key)['Body'].read()
        if got != body(key, SIZES[size]):
            raise ValueError(f'wrong bytes: {key}')
    return step

threads = []
for size in SIZES:
    threads.append(threading.Thread(target=run, args=(f'writer-{size}', 'write', write(size))))
    threads.append(threading.Thread(target=run, args=(f'reader-{size}', 'read', read(size))))
for thread in threads:
    thread.start()
sys.stdin.read()
over.set()
for thread in threads:
    thread.join()
