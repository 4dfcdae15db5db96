// What the scenarios in JavaScript share: where the server is, bytes that follow from a seed, what must fail.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';

export const ENDPOINT = process.env.ENDPOINT;
export const URL_ = new URL(ENDPOINT);
export const SECURE = URL_.protocol === 'https:';
export const ACCESS_KEY = process.env.AWS_ACCESS_KEY_ID;
export const SECRET_KEY = process.env.AWS_SECRET_ACCESS_KEY;
export const REGION = 'us-east-1';

// Over what clients put in one piece, with a last part that is not whole.
export const BIG = (20 << 20) + 12_345;

// Keys that something on the way might mistake for something else.
export const AWKWARD = ['a b', 'a+b', 'a%20b', '100%', 'ä/ö', '日本語', "q'&<>\"", '#h', 'x?y=z', 'a=b;c,d', '(1)!*~', '.hidden'];

/** Bytes that do not compress, the same each time (xorshift32). */
export function data(length, seed = 1) {
  const words = new Uint32Array(Math.ceil(length / 4));
  let state = (seed * 2_654_435_761) >>> 0 || 1;
  for (let at = 0; at < words.length; at += 1) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[at] = state;
  }
  return Buffer.from(words.buffer).subarray(0, length);
}

export function sha(body) {
  return createHash('sha256').update(body).digest('hex');
}

/** Compare by SHA-256: what differs may be large. */
export function same(got, wanted) {
  assert.equal(got.length, wanted.length, 'the lengths differ');
  assert.equal(sha(got), sha(wanted), 'the bytes differ');
}

/** The call must fail; returns its error. */
export async function fails(call) {
  try {
    await call();
  } catch (error) {
    return error;
  }
  throw new assert.AssertionError({ message: `${call} should have failed` });
}

/** All bytes of a stream. */
export async function gathered(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** Run `work` for each, `atOnce` at a time. */
export async function forEach(items, atOnce, work) {
  const queue = [...items];
  const worker = async () => {
    while (queue.length > 0) await work(queue.shift());
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
}

/** In the order of their UTF-8, as S3 lists them. */
export function sorted(keys) {
  return [...keys].sort((one, other) => Buffer.compare(Buffer.from(one), Buffer.from(other)));
}

export function step(words) {
  console.log(words);
}
