import { expect, it } from 'vitest';
import { clock, day, hoursInWords, left, moment } from './time';

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

it.each([
  [59_000, 'less than a minute'],
  [MINUTE, '1 minute'],
  [HOUR, '1 hour'],
  [HOUR + 2 * MINUTE, '1 hour 2 minutes'],
  [24 * HOUR, '1 day'],
  [49 * HOUR, '2 days 1 hour'],
])('says %i ms as “%s”', (ms, text) => {
  expect(left(ms)).toBe(text);
});

it('says hours as they are sold', () => {
  expect([1, 4, 24, 30, 504].map(hoursInWords)).toEqual([
    '1 hour',
    '4 hours',
    '1 day',
    '1 day 6 hours',
    '21 days',
  ]);
});

it('shows moments in the time zone of the reader', () => {
  const text = moment(Date.parse('2026-11-24T15:46:10Z'), 'en-GB', 'Asia/Tokyo');
  expect(text).toContain('25 Nov');
  expect(text).toContain('00:46');
});

it('shows days in the time zone of the reader', () => {
  expect(day(Date.parse('2026-11-24T15:46:10Z'), 'en-GB', 'Asia/Tokyo')).toBe('25 November 2026');
});
