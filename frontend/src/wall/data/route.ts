/**
 * Routes of payments. A node knows its neighbours on a route only, so what each says is put together by the payment's hash:
 * a settled payment by the coins that moved, a failed one by the HTLCs that it left behind.
 */
import type { Htlc, Move, Refusal } from './answers';
import { peerOf, type Lane } from './picture';

/** A payment's way through one channel. */
export interface Step {
  readonly from: string;
  readonly to: string;
  readonly channelId: string;
  readonly msat: number;
  /** Channels between the sender and this one. Parts of a payment may have steps at the same depth. */
  readonly depth: number;
}

/** A route as far as it is known. */
export interface Trace {
  readonly steps: readonly Step[];
  /** Nodes to ask next for moves with this hash. */
  readonly ask: readonly string[];
}

/** What nodes said so far: their moves with the payment's hash, none where they were not asked or know of none. */
export type Moves = ReadonlyMap<string, readonly Move[]>;

function settledChannels(moves: Moves, lanes: ReadonlyMap<string, Lane>): Omit<Step, 'depth'>[] {
  const found = new Map<string, Omit<Step, 'depth'>>();
  for (const [nodeId, ofNode] of moves) {
    for (const move of ofNode) {
      const lane = lanes.get(move.channelId);
      if (lane === undefined) continue;
      const isOut = move.debitMsat > 0;
      const [from, to] = isOut ? [nodeId, peerOf(lane, nodeId)] : [peerOf(lane, nodeId), nodeId];
      const key = `${move.channelId} ${from}`;
      // Both ends report a channel; each of them reports all parts that went through it.
      const msat = ofNode
        .filter((other) => other.channelId === move.channelId && other.debitMsat > 0 === isOut)
        .reduce((sum, other) => sum + other.debitMsat + other.creditMsat, 0);
      // One end may have been asked before all parts had passed.
      const known = found.get(key)?.msat ?? 0;
      found.set(key, { from, to, channelId: move.channelId, msat: Math.max(known, msat) });
    }
  }
  return [...found.values()];
}

/** Puts the route of a settled payment together. */
export function trace(
  sender: string,
  destination: string | null,
  moves: Moves,
  lanes: ReadonlyMap<string, Lane>,
): Trace {
  const left = settledChannels(moves, lanes);
  const steps: Step[] = [];
  const ends = new Set<string>();
  let frontier = new Set([sender]);
  for (let depth = 0; frontier.size > 0; depth += 1) {
    const next = new Set<string>();
    for (const nodeId of frontier) {
      const out = left.filter((channel) => channel.from === nodeId);
      if (out.length === 0 && nodeId !== destination) ends.add(nodeId);
      for (const channel of out) {
        left.splice(left.indexOf(channel), 1);
        steps.push({ ...channel, depth });
        next.add(channel.to);
      }
    }
    frontier = next;
  }
  const hasArrived = steps.some((step) => step.to === destination);
  if (!hasArrived && destination !== null && destination !== sender) ends.add(destination);
  if (steps.length === 0) ends.add(sender);
  return { steps, ask: [...ends] };
}

/** The nodes between sender and destination, in their order on the route. */
export function between(steps: readonly Step[], sender: string, destination: string | null): string[] {
  const all = steps.map((step) => step.to);
  return [...new Set(all)].filter((nodeId) => nodeId !== sender && nodeId !== destination);
}

/** What a forwarding node kept. */
export function earnedBy(steps: readonly Step[], nodeId: string): number {
  const sum = (which: readonly Step[]) => which.reduce((total, step) => total + step.msat, 0);
  return sum(steps.filter((step) => step.to === nodeId)) - sum(steps.filter((step) => step.from === nodeId));
}

/** How far a failed payment got. */
export interface Failure {
  /** The channels that it passed before it came back. */
  readonly steps: readonly Step[];
  /** The node that did not take it further. */
  readonly stoppedAt: string;
  /** The node that it should have gone to from there; null where that is unknown. */
  readonly towards: string | null;
  /** BOLT 4's name of the failure, where the node that stopped it said so. */
  readonly reason: string | null;
}

/** What nodes said about a failed payment. */
export interface FailureSources {
  readonly htlcs: ReadonlyMap<string, readonly Htlc[]>;
  readonly refusals: ReadonlyMap<string, readonly Refusal[]>;
}

/** Follows the last attempt of a failed payment. `ask` is the node to ask next; null where all is known. */
export function traceFailure(
  sender: string,
  paymentHash: string,
  { htlcs, refusals }: FailureSources,
  lanes: readonly Lane[],
): Failure & { readonly ask: string | null } {
  const byScid = new Map(lanes.flatMap((lane) => (lane.scid === null ? [] : [[lane.scid, lane] as const])));
  const steps: Step[] = [];
  const passed = new Set([sender]);
  let at = sender;
  let arrived: Htlc | null = null;
  for (;;) {
    const own = htlcs.get(at);
    const since: number = arrived?.index ?? 0;
    const out: Htlc | undefined = (own ?? [])
      .filter((h) => h.paymentHash === paymentHash && h.direction === 'out' && h.index > since)
      // The sender's last attempt; a forwarding node has one for each that it got.
      .sort((x, y) => (at === sender ? y.index - x.index : x.index - y.index))[0];
    const lane: Lane | undefined = out === undefined ? undefined : byScid.get(out.scid);
    if (out === undefined || lane === undefined) break;
    const to: string = peerOf(lane, at);
    if (passed.has(to)) break;
    steps.push({ from: at, to, channelId: lane.channelId, msat: out.msat, depth: steps.length });
    passed.add(to);
    arrived =
      (htlcs.get(to) ?? [])
        .filter((h) => h.paymentHash === paymentHash && h.direction === 'in' && h.scid === out.scid)
        .sort((x, y) => y.index - x.index)[0] ?? null;
    at = to;
  }
  const refusal = (refusals.get(at) ?? []).find(
    (row) => row.inScid === arrived?.scid && row.inHtlcId === arrived.id,
  );
  const towards = byScid.get(refusal?.outScid ?? '');
  return {
    steps,
    stoppedAt: at,
    towards: towards === undefined ? null : peerOf(towards, at),
    reason: refusal?.reason ?? null,
    ask: htlcs.has(at) ? null : at,
  };
}
