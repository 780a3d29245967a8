import { expect, it } from 'vitest';
import { ConfigError } from './config';
import { isTooSoon, sentence } from './errors';
import { LinkError, RpcError, type Fault } from './node/node';
import { ShapeError } from './shape';

it.each([7000, 7001, 7002, 7003, 7004, 7005, 7006, -32602, -32603, -32601, 19536, 19537, 4242])(
  'has a sentence for %i',
  (code) => {
    expect(sentence(new RpcError(code, 'hours must be 1 to 504'))).toMatch(/^[A-Z].{20,}[.]$/);
  },
);

it.each<Fault>(['unreachable', 'stranger', 'lost', 'timeout', 'closed'])(
  'has a sentence for a link that is %s',
  (fault) => {
    expect(sentence(new LinkError(fault))).toMatch(/^[A-Z].{20,}[.]$/);
  },
);

it('passes on what helps, and nothing of the rest', () => {
  expect(sentence(new RpcError(-32602, 'hours must be 1 to 504'))).toContain('hours must be 1 to 504.');
  expect(sentence(new RpcError(7002, 'busy, try again in 40 seconds'))).toContain('40 seconds');
  expect(sentence(new RpcError(7006, 'sold out, next one frees up at 2026-11-24T15:46:10Z'))).toContain(
    '2026',
  );
  expect(sentence(new RpcError(12, 'rune=secret'))).not.toContain('secret');
  expect(sentence(new TypeError('x is undefined'))).not.toContain('undefined');
  expect(sentence(new ShapeError('products'))).not.toContain('products');
  expect(sentence(new ConfigError('The server is away.'))).toBe('The server is away.');
});

it('knows when to try again by itself', () => {
  expect(isTooSoon(new RpcError(19537, 'Invalid rune: Not permitted: too soon'))).toBe(true);
  expect(isTooSoon(new RpcError(19537, 'Invalid rune: Not permitted: method does not start with x'))).toBe(
    false,
  );
  expect(isTooSoon(new RpcError(7002, 'too soon'))).toBe(false);
});
