import { expect, it } from 'vitest';
import type { Lane } from './picture';
import { balance, standings } from './standings';

function lane(a: string, b: string, share: number, phase: Lane['phase'] = 'open'): Lane {
  return {
    channelId: `${a}${b}`,
    scid: '1x1x1',
    a,
    b,
    aMsat: share * 1000,
    totalMsat: 1000,
    phase,
    opener: a,
    closer: null,
    isForced: false,
    confirmations: 6,
  };
}

it('is balanced where each side has half', () => {
  expect([0, 0.25, 0.5, 1].map((share) => balance(lane('a', 'b', share)))).toEqual([0, 0.5, 1, 0]);
});

it('orders by what counts, and leaves out who has nothing', () => {
  const lanes = [lane('a', 'b', 0.5), lane('a', 'c', 0.9), lane('c', 'd', 1, 'opening')];
  const routed = new Map([
    ['a', { count: 2, feesMsat: 10 }],
    ['b', { count: 2, feesMsat: 30 }],
    ['c', { count: 9, feesMsat: 0 }],
  ]);
  const ids = (places: readonly { nodeId: string }[]) => places.map(({ nodeId }) => nodeId);
  const { routed: r, connected, balanced } = standings(['a', 'b', 'c', 'd'], lanes, routed);
  expect(ids(r)).toEqual(['c', 'b', 'a']);
  expect(connected.map(({ nodeId, value }) => [nodeId, value])).toEqual([['a', 2], ['b', 1], ['c', 1]]); // prettier-ignore
  expect(balanced.map(({ nodeId, value }) => [nodeId, value])).toEqual([['b', 100], ['a', 60], ['c', 20]]); // prettier-ignore
});
