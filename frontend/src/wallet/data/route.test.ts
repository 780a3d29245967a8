import { describe, expect, it } from 'vitest';
import { readChannels } from './channels';
import { circle, forwardFee, lastLeg, readPlan } from './route';
import { ALICE, BRUNO, CAROL, peerChannel } from './data.fixtures';

describe('readPlan', () => {
  it('reads the hops and what they cost', () => {
    const plan = readPlan({
      routes: [
        {
          amount_msat: 50_000_000,
          final_cltv: 10,
          path: [
            { short_channel_id_dir: '112x2x0/1', next_node_id: BRUNO, amount_msat: 50_000_501, delay: 16 },
            { short_channel_id_dir: '112x1x0/1', next_node_id: CAROL, amount_msat: 50_000_501, delay: 16 },
          ],
        },
      ],
    });
    expect(plan.feeMsat).toBe(501);
    expect(plan.routes[0]?.hops.map(({ nodeId, scid, direction }) => [nodeId, scid, direction])).toEqual([
      [BRUNO, '112x2x0', 1],
      [CAROL, '112x1x0', 1],
    ]);
  });
});

describe('forwardFee', () => {
  it('is the base and a share, rounded down', () => {
    expect(forwardFee(50_000_000, { baseMsat: 1, ppm: 10, cltvDelta: 6 })).toBe(501);
    expect(forwardFee(99_999, { baseMsat: 0, ppm: 10, cltvDelta: 6 })).toBe(0);
  });
});

describe('circle', () => {
  const [out, back] = readChannels({
    channels: [
      peerChannel(),
      peerChannel({ peer_id: CAROL, short_channel_id: '136x1x0', channel_id: 'two' }),
    ],
  });
  if (out === undefined || back === undefined) throw new Error('no channels');

  it('leaves through one channel and comes back through the other; each hop gets what it asks for', () => {
    // What a real node was paid with: 10,000 sat from Alice over Bruno and Carol back to Alice.
    expect(lastLeg(10_000_000, back)).toEqual({ msat: 10_000_101, delay: 24 });
    const { routes } = readPlan({
      routes: [
        {
          amount_msat: 10_000_101,
          final_cltv: 24,
          path: [
            { short_channel_id_dir: '112x1x0/1', next_node_id: CAROL, amount_msat: 10_000_202, delay: 30 },
          ],
        },
      ],
    });
    expect(circle(ALICE, 10_000_000, out, routes[0] ?? null, back)).toEqual({
      feeMsat: 202,
      route: [
        { id: BRUNO, channel: '112x2x0', amount_msat: 10_000_202, delay: 30 },
        { id: CAROL, channel: '112x1x0', amount_msat: 10_000_101, delay: 24 },
        { id: ALICE, channel: '136x1x0', amount_msat: 10_000_000, delay: 18 },
      ],
    });
  });

  it('turns at the neighbour where both channels lead to the same one', () => {
    expect(circle(ALICE, 1_000_000, out, null, back).route).toEqual([
      { id: BRUNO, channel: '112x2x0', amount_msat: 1_000_011, delay: 24 },
      { id: ALICE, channel: '136x1x0', amount_msat: 1_000_000, delay: 18 },
    ]);
  });
});
