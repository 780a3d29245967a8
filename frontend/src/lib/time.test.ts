import { expect, it } from 'vitest';
import { clock } from './time';

const [MINUTE, HOUR] = [60_000, 3_600_000];

it.each([
  [600_000, '10:00'],
  [65_001, '1:06'],
  [999, '0:01'],
  [0, '0:00'],
  [-5000, '0:00'],
  [HOUR + 9 * MINUTE + 5000, '1:09:05'],
])('shows %i ms as %s', (ms, text) => {
  expect(clock(ms)).toBe(text);
});
