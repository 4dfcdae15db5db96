"""What all scenarios share: where the server is, bytes that follow from a seed, and what must fail."""

import hashlib
import os
import random
import ssl
import urllib.error
import urllib.request

ENDPOINT = os.environ['ENDPOINT']
HOST = ENDPOINT.split('://')[1]
SECURE = ENDPOINT.startswith('https://')
# The CA that the server's certificate is of, or None.
CA = os.environ['CA'] or None
ACCESS_KEY = os.environ['AWS_ACCESS_KEY_ID']
SECRET_KEY = os.environ['AWS_SECRET_ACCESS_KEY']
REGION = 'us-east-1'

# Over what clients put in one piece, with a last part that is not whole.
BIG = (20 << 20) + 12_345

# Keys that something on the way might mistake for something else.
AWKWARD = ['a b', 'a+b', 'a%20b', '100%', 'ä/ö', '日本語', "q'&<>\"", '#h', 'x?y=z', 'a=b;c,d', '(1)!*~', 'a//b', '.hidden']


def data(length, seed=1):
    """Bytes that do not compress, the same each time."""
    return random.Random(seed).randbytes(length)


def sha(body):
    return hashlib.sha256(bytes(body)).hexdigest()


def same(got, wanted):
    """Compare by SHA-256: what differs may be large."""
    assert len(got) == len(wanted), f'{len(got)} bytes, {len(wanted)} wanted'
    assert sha(got) == sha(wanted), 'the bytes differ'


def fails(kind, call, *arguments, **named):
    """The call must raise this class; returns what it raised."""
    try:
        call(*arguments, **named)
    except kind as error:
        return error
    raise AssertionError(f'{call} should have raised {kind}')


def fetch(url, method='GET', body=None, headers=None):
    """A request without credentials of its own, as a browser sends it: status, headers (lower case), body."""
    request = urllib.request.Request(url, method=method, data=body, headers=headers or {})
    context = ssl.create_default_context(cafile=CA) if SECURE else None
    try:
        with urllib.request.urlopen(request, context=context) as answer:
            return answer.status, lowered(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, lowered(error.headers), error.read()


def lowered(headers):
    return {name.lower(): value for name, value in headers.items()}


def step(words):
    print(words, flush=True)
