import { describe, expect, it } from 'vitest';
import { parseSats, percent } from './amount';

describe('parseSats', () => {
  it.each([
    ['21000', 21_000_000],
    ['21,000', 21_000_000],
    ['21.000', 21_000_000],
    ["1'000'000 sat", 1_000_000_000],
    [' 1 000 sats ', 1_000_000],
    ['0', 0],
  ])('reads %j', (text, msat) => {
    expect(parseSats(text)).toBe(msat);
  });

  it.each(['', '1.5', '-1', '1e3', '12,34', 'ten', '99999999999999999', '0x10', '1,0000'])(
    'does not read %j',
    (text) => {
      expect(parseSats(text)).toBeNull();
    },
  );
});

describe('percent', () => {
  it('stays between 0 and 100, also of nothing', () => {
    expect([percent(1, 3), percent(0, 0), percent(5, 4), percent(-1, 4)]).toEqual([33, 0, 100, 0]);
  });
});
