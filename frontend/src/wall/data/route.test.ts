import { describe, expect, it } from 'vitest';
import { readChannels } from '../../wallet/data/channels';
import { readHtlcs, readMoves, readParts, readRefusals, type Htlc, type Move, type Refusal } from './answers';
import { lanesOf, type Lane } from './picture';
import {
  ALICE,
  ALICE_BRUNO,
  BRUNO,
  BRUNO_CAROL,
  CAROL,
  CHANNELS,
  FAILED,
  FORWARDS,
  HTLCS,
  MOVES,
  SENDPAYS,
} from './recorded.fixtures';
import { between, earnedBy, trace, traceFailure } from './route';

const LANES = lanesOf(
  Object.entries(CHANNELS).map(([nodeId, answer]) => ({
    nodeId,
    channels: readChannels(answer),
    askedAt: 1,
  })),
  120,
);
const BY_ID: ReadonlyMap<string, Lane> = new Map(LANES.map((lane) => [lane.channelId, lane]));

function told(...nodeIds: string[]): Map<string, readonly Move[]> {
  return new Map(nodeIds.map((nodeId) => [nodeId, readMoves(MOVES[nodeId])]));
}

describe('trace', () => {
  it('asks from the sender along the route, and has it when the payee is reached', () => {
    expect(trace(ALICE, CAROL, told(), BY_ID)).toEqual({ steps: [], ask: [ALICE, CAROL] });
    const first = trace(ALICE, CAROL, told(ALICE), BY_ID);
    expect(first.ask).toEqual([BRUNO, CAROL]);
    const whole = trace(ALICE, CAROL, told(ALICE, BRUNO), BY_ID);
    expect(whole).toEqual({
      ask: [],
      steps: [
        { from: ALICE, to: BRUNO, channelId: ALICE_BRUNO, msat: 21_000_211, depth: 0 },
        { from: BRUNO, to: CAROL, channelId: BRUNO_CAROL, msat: 21_000_000, depth: 1 },
      ],
    });
    expect(between(whole.steps, ALICE, CAROL)).toEqual([BRUNO]);
    expect(earnedBy(whole.steps, BRUNO)).toBe(211);
  });

  it('finds the route around a node that does not answer, by what its neighbours say', () => {
    expect(trace(ALICE, CAROL, told(ALICE, CAROL), BY_ID).steps.map(({ from, to }) => [from, to])).toEqual([
      [ALICE, BRUNO],
      [BRUNO, CAROL],
    ]);
  });

  it('comes back to a node that paid itself', () => {
    const lane = (id: string, a: string, b: string) => ({ ...LANES[0], channelId: id, a, b }) as Lane;
    const circle = new Map([
      ['x', lane('x', ALICE, BRUNO)],
      ['y', lane('y', ALICE, BRUNO)],
    ]);
    const move = (channelId: string, debitMsat: number, creditMsat: number) =>
      ({ index: 1, channelId, debitMsat, creditMsat, paymentHash: 'h', feesMsat: 0 }) satisfies Move;
    const moves = new Map([
      [ALICE, [move('x', 1001, 0), move('y', 0, 1000)]],
      [BRUNO, [move('x', 0, 1001), move('y', 1000, 0)]],
    ]);
    const { steps, ask } = trace(ALICE, ALICE, moves, circle);
    expect(steps.map(({ channelId, from, depth }) => [channelId, from, depth])).toEqual([
      ['x', ALICE, 0],
      ['y', BRUNO, 1],
    ]);
    expect(ask).toEqual([]);
    expect(between(steps, ALICE, ALICE)).toEqual([BRUNO]);
  });

  it('adds up the parts of a payment that went through one channel', () => {
    const part = { index: 1, channelId: ALICE_BRUNO, debitMsat: 500, creditMsat: 0, paymentHash: 'h', feesMsat: 0 }; // prettier-ignore
    const { steps } = trace(ALICE, BRUNO, new Map([[ALICE, [part, { ...part, index: 2 }]]]), BY_ID);
    expect(steps.map(({ msat }) => msat)).toEqual([1000]);
  });
});

describe('traceFailure', () => {
  const sources = (...nodeIds: string[]) => ({
    htlcs: new Map<string, readonly Htlc[]>(nodeIds.map((id) => [id, readHtlcs(HTLCS[id])])),
    refusals: new Map<string, readonly Refusal[]>(nodeIds.map((id) => [id, readRefusals(FORWARDS[id])])),
  });

  it('follows the HTLCs to the node that stopped the payment, which says why', () => {
    expect(traceFailure(ALICE, FAILED, sources(), LANES).ask).toBe(ALICE);
    expect(traceFailure(ALICE, FAILED, sources(ALICE), LANES).ask).toBe(BRUNO);
    const all = sources(ALICE, BRUNO);
    // Another payment that came through the same channel, and failed for another reason.
    const other = { inScid: '103x3x0', inHtlcId: 1, outScid: null, reason: 'WIRE_UNKNOWN_NEXT_PEER' };
    all.refusals.set(BRUNO, [other, ...(all.refusals.get(BRUNO) ?? [])]);
    expect(traceFailure(ALICE, FAILED, all, LANES)).toEqual({
      steps: [{ from: ALICE, to: BRUNO, channelId: ALICE_BRUNO, msat: 2_000_020_001, depth: 0 }],
      stoppedAt: BRUNO,
      towards: CAROL,
      reason: 'WIRE_TEMPORARY_CHANNEL_FAILURE',
      ask: null,
    });
  });

  it('knows nothing of a payment that left nothing behind', () => {
    const empty = { htlcs: new Map([[ALICE, []]]), refusals: new Map() };
    expect(traceFailure(ALICE, FAILED, empty, LANES)).toMatchObject({
      steps: [],
      stoppedAt: ALICE,
      reason: null,
    });
  });
});

it('reads the parts of payments', () => {
  expect(
    readParts(SENDPAYS).map(({ status, destination, updatedIndex }) => [status, destination, updatedIndex]),
  ).toEqual([
    ['complete', CAROL, 1],
    ['failed', CAROL, 3],
  ]);
});
