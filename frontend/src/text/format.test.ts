import { describe, expect, it } from 'vitest';
import { formats } from './format';

const [MINUTE, HOUR] = [60_000, 3_600_000];
const en = formats('en-US');
const es = formats('es');
/** With plain spaces, which tests can read. */
const plain = (text: string) => text.replace(/[\u00a0\u202f]/g, ' ');

describe('amounts', () => {
  it('shows small fees with their fractions, and never more coins than there are', () => {
    expect([501, 1000, 940_999_999].map(en.sat)).toEqual(['0.501', '1', '940,999']);
    expect([501, 1000, 940_999_999].map(es.sat)).toEqual(['0,501', '1', '940.999']);
  });

  it('rounds a price up', () => {
    expect([0, 1, 76_800_000].map(en.price)).toEqual(['0', '1', '76,800']);
    expect(formats('es-MX').price(76_800_000)).toBe('76,800');
  });

  it('writes shares', () => {
    expect([en.percent(40), plain(es.percent(40))]).toEqual(['40%', '40 %']);
  });
});

describe('words by number', () => {
  const nodo = { one: 'nodo', many: 'de nodos', other: 'nodos' };

  it('takes the form that the language wants', () => {
    expect([0, 1, 2, 21].map((n) => en.count(n, { one: 'node', other: 'nodes' }))).toEqual([
      '0 nodes',
      '1 node',
      '2 nodes',
      '21 nodes',
    ]);
    expect([0, 1, 2, 1_000_000].map((n) => es.count(n, nodo))).toEqual([
      '0 nodos',
      '1 nodo',
      '2 nodos',
      '1.000.000 de nodos',
    ]);
  });

  it('has a form for all numbers', () => {
    const arabic = formats('ar-u-nu-latn');
    expect(arabic.count(3, { other: 'x' })).toBe('3 x');
  });
});

describe('lists', () => {
  it('puts the conjunction of the language before the last', () => {
    expect(en.list(['Ann', 'Bob'])).toBe('Ann and Bob');
    expect(es.list(['Ana', 'Bruno', 'Carla'])).toBe('Ana, Bruno y Carla');
    expect(es.list(['Bruno', 'Imani'])).toBe('Bruno e Imani');
    expect(es.list([])).toBe('');
  });

  it('keeps what is in the list', () => {
    const [a, b] = [{ node: 'a' }, { node: 'b' }];
    expect(es.listed([a, b], ({ node }) => (node === 'b' ? 'Imani' : 'Bruno'))).toEqual([a, ' e ', b]);
  });
});

describe('times', () => {
  it.each([
    [MINUTE, '1 minute', '1 minuto'],
    [HOUR, '1 hour', '1 hora'],
    [HOUR + 2 * MINUTE, '1 hour 2 minutes', '1 hora 2 minutos'],
    [24 * HOUR, '1 day', '1 día'],
    [49 * HOUR, '2 days 1 hour', '2 días 1 hora'],
  ])('says %i ms as “%s”', (ms, english, spanish) => {
    expect([en.duration(ms), es.duration(ms)]).toEqual([english, spanish]);
  });

  it('says hours as they are sold', () => {
    expect([1, 4, 24, 30, 504].map(en.hours)).toEqual([
      '1 hour',
      '4 hours',
      '1 day',
      '1 day 6 hours',
      '21 days',
    ]);
  });

  it('shows them in the time zone of the reader', () => {
    const at = Date.parse('2026-11-24T15:46:10Z');
    const tokyo = formats('en-GB', 'Asia/Tokyo');
    expect(tokyo.moment(at)).toContain('25 Nov');
    expect(tokyo.moment(at)).toContain('00:46');
    expect(tokyo.day(at)).toBe('25 November 2026');
    expect(formats('es', 'Asia/Tokyo').day(at)).toBe('25 de noviembre de 2026');
    expect(tokyo.soon(at, at + HOUR)).toBe('00:46');
    expect(tokyo.soon(at, at + 24 * HOUR)).toContain('25 Nov');
  });
});
