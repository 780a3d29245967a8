import { expect, it } from 'vitest';
import { priceMsat, readMsat } from './money';

it('prices as the shop does: 8 nodes for 48 hours at 200 sat', () => {
  expect(priceMsat(200_000, 8, 48)).toBe(76_800_000);
});

it('reads both spellings of an amount', () => {
  expect([readMsat(5), readMsat('5msat'), readMsat('5'), readMsat('five'), readMsat(undefined)]).toEqual([
    5, 5, 5, 0, 0,
  ]);
});
