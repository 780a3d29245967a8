/** Liquidity: what can be sent and received, and what stands in the way. */
import { isUsable, type Channel } from './channels';

/** The node's liquidity, in msat. */
export interface Liquidity {
  readonly canSend: number;
  readonly canReceive: number;
  /** The most that fits through one channel. */
  readonly largestSend: number;
  readonly largestReceive: number;
  readonly advice: Advice;
}

/** What to tell somebody about it. */
export type Advice =
  'no-channels' | 'opening' | 'peers-away' | 'cannot-receive' | 'cannot-send' | 'both-ways';

/** Below this a side counts as empty, in msat: less than one would pay for anything. */
const EMPTY = 1_000_000;

/** Adds the channels up. */
export function liquidity(channels: readonly Channel[]): Liquidity {
  const usable = channels.filter(isUsable);
  const total = (pick: (channel: Channel) => number) => usable.reduce((sum, c) => sum + pick(c), 0);
  const most = (pick: (channel: Channel) => number) => usable.reduce((max, c) => Math.max(max, pick(c)), 0);
  const canSend = total((c) => c.spendableMsat);
  const canReceive = total((c) => c.receivableMsat);
  return {
    canSend,
    canReceive,
    largestSend: most((c) => c.spendableMsat),
    largestReceive: most((c) => c.receivableMsat),
    advice: advice(channels, usable.length, canSend, canReceive),
  };
}

function advice(channels: readonly Channel[], usable: number, canSend: number, canReceive: number): Advice {
  if (usable === 0) {
    if (channels.some((c) => c.phase === 'opening')) return 'opening';
    return channels.some((c) => c.phase === 'open') ? 'peers-away' : 'no-channels';
  }
  if (canReceive < EMPTY) return 'cannot-receive';
  return canSend < EMPTY ? 'cannot-send' : 'both-ways';
}

/** Two channels between which coins could be moved: from the fullest to the emptiest; null if there are no two. */
export function rebalancePair(
  channels: readonly Channel[],
): { from: Channel; to: Channel; msat: number } | null {
  const usable = channels.filter((c) => isUsable(c) && c.theirFees !== null);
  const share = (c: Channel) => c.oursMsat / Math.max(1, c.totalMsat);
  const [to, ...rest] = [...usable].sort((a, b) => share(a) - share(b));
  const from = rest.at(-1);
  if (to === undefined || from === undefined) return null;
  // Equal shares, as far as both sides have room. In sat: products of msat are beyond what a number holds exactly.
  const inSat = (msat: number) => Math.floor(msat / 1000);
  const [ours, theirs] = [
    inSat(from.oursMsat) * inSat(to.totalMsat),
    inSat(to.oursMsat) * inSat(from.totalMsat),
  ];
  const even = (ours - theirs) / Math.max(1, inSat(from.totalMsat) + inSat(to.totalMsat));
  const msat =
    1000 * Math.floor(Math.min(even, inSat(from.spendableMsat) * 0.95, inSat(to.receivableMsat) * 0.95));
  return msat >= EMPTY ? { from, to, msat } : null;
}
