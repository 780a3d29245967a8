/** Routes: what a payment will cost and whom it passes. */
import { readMsat } from '../../lib/money';
import { list, numberOr, object, text } from '../../lib/shape';
import type { Channel, FeePolicy } from './channels';

/** A step of a route. */
export interface Hop {
  readonly scid: string;
  readonly direction: number;
  readonly nodeId: string;
  /** What enters this channel, msat. */
  readonly msat: number;
  readonly delay: number;
}

/** A way for a payment, or for a part of it. */
export interface Route {
  readonly hops: readonly Hop[];
  readonly deliveredMsat: number;
  readonly finalDelay: number;
}

/** All parts of a payment. */
export interface Plan {
  readonly routes: readonly Route[];
  readonly feeMsat: number;
}

/** Reads the answer of `getroutes`. */
export function readPlan(answer: unknown): Plan {
  const routes = list(object(answer, 'getroutes'), 'routes').map((item): Route => {
    const from = object(item, 'route');
    const hops = list(from, 'path').map((step): Hop => {
      const hop = object(step, 'hop');
      const [scid = '', direction = '0'] = text(hop, 'short_channel_id_dir').split('/');
      return {
        scid,
        direction: Number(direction),
        nodeId: text(hop, 'next_node_id'),
        msat: readMsat(hop['amount_msat']),
        delay: numberOr(hop, 'delay', 0),
      };
    });
    return {
      hops,
      deliveredMsat: readMsat(from['amount_msat']),
      finalDelay: numberOr(from, 'final_cltv', 0),
    };
  });
  const feeMsat = routes.reduce(
    (sum, { hops, deliveredMsat }) => sum + (hops[0]?.msat ?? deliveredMsat) - deliveredMsat,
    0,
  );
  return { routes, feeMsat };
}

/** What a node takes for forwarding an amount (BOLT 7). */
export function forwardFee(msat: number, fees: FeePolicy): number {
  return fees.baseMsat + Math.floor((msat * fees.ppm) / 1_000_000);
}

/** A hop of `sendpay`. */
export interface SendpayHop {
  readonly id: string;
  readonly channel: string;
  readonly amount_msat: number;
  readonly delay: number;
}

/** What the last node of a circular payment asks for, in blocks. */
export const FINAL_DELAY = 18;

/** The amount that has to reach the far end of the channel `into`, so that `msat` come back through it, and the delay there. */
export function lastLeg(msat: number, into: Channel): { msat: number; delay: number } {
  const fees = into.theirFees ?? { baseMsat: 0, ppm: 0, cltvDelta: 6 };
  return { msat: msat + forwardFee(msat, fees), delay: FINAL_DELAY + fees.cltvDelta };
}

/**
 * A payment to oneself: out through `from`, along `middle` from its peer to the peer of `into`, back through `into`.
 * `middle` is null where both channels lead to the same peer.
 */
export function circle(
  self: string,
  msat: number,
  from: Channel,
  middle: Route | null,
  into: Channel,
): { route: SendpayHop[]; feeMsat: number } {
  const last = lastLeg(msat, into);
  const hops = middle?.hops ?? [];
  // A hop's amount is what leaves over its channel, that is what enters it; the next one's is less by the fee.
  const middleHops = hops.map((hop, at): SendpayHop => {
    const next = hops[at + 1];
    return {
      id: hop.nodeId,
      channel: hop.scid,
      amount_msat: next?.msat ?? last.msat,
      delay: next?.delay ?? last.delay,
    };
  });
  const first = hops[0];
  const route: SendpayHop[] = [
    {
      id: from.peerId,
      channel: from.scid ?? '',
      amount_msat: first?.msat ?? last.msat,
      delay: first?.delay ?? last.delay,
    },
    ...middleHops,
    { id: self, channel: into.scid ?? '', amount_msat: msat, delay: FINAL_DELAY },
  ];
  return { route, feeMsat: (route[0]?.amount_msat ?? msat) - msat };
}
