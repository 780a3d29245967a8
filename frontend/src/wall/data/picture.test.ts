import { describe, expect, it } from 'vitest';
import { readChannels } from '../../wallet/data/channels';
import { laneEvents, lanesOf, withMove, type NodeReport } from './picture';
import { ALICE, ALICE_BRUNO, BRUNO, BRUNO_CAROL, channel, CHANNELS } from './recorded.fixtures';

function report(nodeId: string, askedAt: number, more: Record<string, unknown> = {}): NodeReport {
  return { nodeId, askedAt, channels: readChannels({ channels: [channel(BRUNO, ALICE_BRUNO, more)] }) };
}

const all = (answers: Record<string, unknown>) =>
  Object.entries(answers).map(([nodeId, answer]) => ({
    nodeId,
    channels: readChannels(answer),
    askedAt: 1,
  }));

describe('lanesOf', () => {
  it('makes one channel of its two ends', () => {
    const lanes = lanesOf(all(CHANNELS), 104);
    expect(lanes.map(({ channelId }) => channelId)).toEqual([BRUNO_CAROL, ALICE_BRUNO]);
    expect(lanes[1]).toMatchObject({
      a: ALICE,
      b: BRUNO,
      opener: ALICE,
      aMsat: 10_000_000_000,
      phase: 'open',
      confirmations: 2,
    });
  });

  it('believes the end that was asked last', () => {
    const [, bruno] = all(CHANNELS);
    if (bruno === undefined) throw new Error('no Bruno');
    const late = withMove({ ...bruno, askedAt: 9 }, ALICE_BRUNO, 3_000_000_000);
    for (const order of [
      [report(ALICE, 1), late],
      [late, report(ALICE, 1)],
    ])
      expect(lanesOf(order, 104).find((lane) => lane.channelId === ALICE_BRUNO)?.aMsat).toBe(7_000_000_000);
  });

  it('has no channel that one end has seen closed on chain', () => {
    expect(lanesOf([report(ALICE, 1, { state: 'ONCHAIN' }), ...all(CHANNELS).slice(1)], 104)).toHaveLength(1);
  });

  it('counts confirmations up to those that everybody waits for', () => {
    const confirmed = (height: number, more = {}) =>
      lanesOf([report(ALICE, 1, more)], height)[0]?.confirmations;
    expect([103, 106, 108, 500].map((height) => confirmed(height))).toEqual([1, 4, 6, 6]);
    expect(confirmed(103, { short_channel_id: undefined, state: 'CHANNELD_AWAITING_LOCKIN' })).toBe(0);
  });
});

it('moves coins in a report, within the channel', () => {
  const ours = (msat: number) => withMove(report(ALICE, 1), ALICE_BRUNO, msat).channels[0]?.oursMsat;
  expect([ours(-4000), ours(4000), ours(-20_000_000_000)]).toEqual([9_999_996_000, 10_000_000_000, 0]);
});

describe('laneEvents', () => {
  // The states that a channel of a real node went through.
  const life = [
    null,
    { state: 'CHANNELD_AWAITING_LOCKIN', short_channel_id: undefined },
    { state: 'CHANNELD_NORMAL' },
    { state: 'CLOSINGD_COMPLETE', closer: 'local' },
    { state: 'ONCHAIN', closer: 'local' },
  ].map((more) => (more === null ? [] : lanesOf([report(ALICE, 1, more)], 103)));

  it('tells a channel’s life', () => {
    const told = life.slice(1).map((after, i) => laneEvents(life[i] ?? [], after).map(({ kind }) => kind));
    expect(told).toEqual([['opening'], ['opened'], ['closing'], ['closed']]);
    expect(laneEvents(life[2] ?? [], life[2] ?? [])).toEqual([]);
  });

  it('tells of a channel that was opened unseen, but not of one that all know already', () => {
    expect(laneEvents([], lanesOf([report(ALICE, 1)], 103)).map(({ kind }) => kind)).toEqual(['opened']);
    expect(laneEvents([], lanesOf([report(ALICE, 1)], 120))).toEqual([]);
  });

  it('knows who closes, and whether by force', () => {
    const forced = lanesOf([report(ALICE, 1, { state: 'AWAITING_UNILATERAL', closer: 'remote' })], 120);
    expect(forced[0]).toMatchObject({ phase: 'closing', closer: BRUNO, isForced: true });
  });
});
