# Every object that a probe's log shows as written is there, with its bytes: what earlier rounds
# verified by a share, the last round's wholly.
import random
SIZES = {'small': 4000, 'large': 300000}

def body(key, size):
    return (key.encode() + b' ') * (size // (len(key) + 1) + 1)

acked = []
for path in sys.argv[1:]:
    name = os.path.basename(path).removeprefix('probe-').removesuffix('.txt')
    counts = {size: 0 for size in SIZES}
    lines = [line.split() for line in open(path) if line.startswith('writer-')]
    for line in lines:
        size = line[0].removeprefix('writer-')
        if 'failed' not in line:
            acked.append((path, f'{name}/{size}/{counts[size]}', size))
        counts[size] += 1
draw = random.Random(len(acked))
read = 0
for path, key, size in acked:
    if path != sys.argv[-1] and draw.random() > 0.05:
        continue
    got = s3.get_object(Bucket='load', Key=key)['Body'].read()
    assert got == body(key, SIZES[size]), f'wrong bytes: {key}'
    read += 1
print(f'{len(acked)} acknowledged, {read} read back')
