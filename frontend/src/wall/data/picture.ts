/** The picture of the room: all channels, put together from what their two ends say, and how it changes. */
import { confirmations, type Channel } from '../../wallet/data/channels';

/** What a node said about its channels. */
export interface NodeReport {
  readonly nodeId: string;
  readonly channels: readonly Channel[];
  /** When it was asked, in milliseconds since 1970. */
  readonly askedAt: number;
}

/** Where a channel is in its life. The one that is settled on chain is not in the picture any more. */
export type LanePhase = 'opening' | 'open' | 'closing';

/** A channel between two nodes. Amounts in msat. */
export interface Lane {
  readonly channelId: string;
  readonly scid: string | null;
  /** The two ends, the lower id first. */
  readonly a: string;
  readonly b: string;
  readonly aMsat: number;
  readonly totalMsat: number;
  readonly phase: LanePhase;
  /** Who opened it. */
  readonly opener: string;
  /** Who closed it, as far as the ends know. */
  readonly closer: string | null;
  readonly isForced: boolean;
  /** Confirmations of its funding, at most {@link ANNOUNCED}. */
  readonly confirmations: number;
}

/** Confirmations after which everybody hears of a channel (BOLT 7). */
export const ANNOUNCED = 6;

const NO_HEIGHTS: ReadonlyMap<string, number> = new Map();

function phaseOf(channel: Channel): LanePhase | null {
  // The closing transaction is in a block: what is left of the channel is on chain.
  if (channel.state === 'ONCHAIN') return null;
  return channel.phase === 'onchain' ? 'closing' : channel.phase;
}

function laneOf({ nodeId }: NodeReport, channel: Channel, height: number): Lane | null {
  const phase = phaseOf(channel);
  if (phase === null) return null;
  const isA = nodeId < channel.peerId;
  const other = (isUs: boolean) => (isUs ? nodeId : channel.peerId);
  return {
    channelId: channel.channelId,
    scid: channel.scid,
    a: isA ? nodeId : channel.peerId,
    b: isA ? channel.peerId : nodeId,
    aMsat: isA ? channel.oursMsat : channel.totalMsat - channel.oursMsat,
    totalMsat: channel.totalMsat,
    phase,
    opener: other(channel.openedByUs),
    closer: channel.closedBy === null ? null : other(channel.closedBy === 'us'),
    isForced: channel.state === 'AWAITING_UNILATERAL' || channel.state === 'FUNDING_SPEND_SEEN',
    confirmations: Math.min(ANNOUNCED, confirmations(channel, NO_HEIGHTS, height)),
  };
}

/** The channels of the room. Where the ends differ, the one that was asked last is right. */
export function lanesOf(reports: Iterable<NodeReport>, height: number): Lane[] {
  const lanes = new Map<string, Lane>();
  const over = new Set<string>();
  for (const report of [...reports].sort((x, y) => x.askedAt - y.askedAt)) {
    for (const channel of report.channels) {
      const lane = laneOf(report, channel, height);
      if (lane === null) over.add(channel.channelId);
      else lanes.set(channel.channelId, lane);
    }
  }
  for (const id of over) lanes.delete(id);
  return [...lanes.values()].sort((x, y) => (x.channelId < y.channelId ? -1 : 1));
}

/** Something that happened to a channel. */
export type LaneEvent =
  | { readonly kind: 'opening'; readonly lane: Lane }
  | { readonly kind: 'opened'; readonly lane: Lane }
  | { readonly kind: 'closing'; readonly lane: Lane }
  | { readonly kind: 'closed'; readonly lane: Lane };

/**
 * What happened to the channels between two pictures. A channel that is new here but known to everybody out there is no
 * news: its nodes were late to tell of it.
 */
export function laneEvents(before: readonly Lane[], after: readonly Lane[]): LaneEvent[] {
  const known = new Map(before.map((lane) => [lane.channelId, lane]));
  const events: LaneEvent[] = [];
  for (const lane of after) {
    const was = known.get(lane.channelId)?.phase ?? null;
    known.delete(lane.channelId);
    if (was === lane.phase) continue;
    if (lane.phase === 'opening') {
      if (was === null) events.push({ kind: 'opening', lane });
    } else if (lane.phase === 'open') {
      const isOld = was === null && lane.confirmations >= ANNOUNCED;
      if (was !== 'closing' && !isOld) events.push({ kind: 'opened', lane });
    } else events.push({ kind: 'closing', lane });
  }
  for (const lane of known.values()) events.push({ kind: 'closed', lane });
  return events;
}

/** The other end. */
export function peerOf(lane: Lane, nodeId: string): string {
  return lane.a === nodeId ? lane.b : lane.a;
}

/** A node's report after so much came into a channel of its own, or left it where `msat` is negative. */
export function withMove(report: NodeReport, channelId: string, msat: number): NodeReport {
  const channels = report.channels.map((channel) => {
    if (channel.channelId !== channelId) return channel;
    const oursMsat = Math.min(channel.totalMsat, Math.max(0, channel.oursMsat + msat));
    return { ...channel, oursMsat };
  });
  return { ...report, channels };
}
