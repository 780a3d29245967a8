/** Who leads the room. */
import type { Lane } from './picture';

/** What a node has passed on for others. Fees in msat. */
export interface Routed {
  readonly count: number;
  readonly feesMsat: number;
}

/** A place in a list. */
export interface Place {
  readonly nodeId: string;
  readonly value: number;
  /** What decides between equal values, or is shown beside them. */
  readonly more: number;
}

/** The lists, each with its best first. */
export interface Standings {
  /** By payments passed on; `more` is what they earned, in msat. */
  readonly routed: readonly Place[];
  /** By open channels; `more` is what they hold together, in msat. */
  readonly connected: readonly Place[];
  /** By balance, 0 to 100: 100 where all channels have half of their coins on each side; `more` is the number of channels. */
  readonly balanced: readonly Place[];
}

/** Entries of a list. */
const SHOWN = 3;

/** From 0, where all coins are on one side, to 1, where each side has half. */
export function balance(lane: Lane): number {
  return lane.totalMsat > 0 ? 1 - Math.abs((2 * lane.aMsat) / lane.totalMsat - 1) : 0;
}

function best(places: readonly Place[]): Place[] {
  return places
    .filter(({ value }) => value > 0)
    .sort((x, y) => y.value - x.value || y.more - x.more || (x.nodeId < y.nodeId ? -1 : 1))
    .slice(0, SHOWN);
}

/** Computes the standings from the open channels, and from what nodes have routed. */
export function standings(
  nodeIds: readonly string[],
  lanes: readonly Lane[],
  routed: ReadonlyMap<string, Routed>,
): Standings {
  const open = new Map<string, Lane[]>(nodeIds.map((id) => [id, []]));
  for (const lane of lanes) {
    if (lane.phase !== 'open') continue;
    for (const end of [lane.a, lane.b]) open.get(end)?.push(lane);
  }
  const all = [...open];
  return {
    routed: best(
      nodeIds.map((nodeId) => {
        const { count = 0, feesMsat = 0 } = routed.get(nodeId) ?? {};
        return { nodeId, value: count, more: feesMsat };
      }),
    ),
    connected: best(
      all.map(([nodeId, own]) => ({
        nodeId,
        value: own.length,
        more: own.reduce((sum, lane) => sum + lane.totalMsat, 0),
      })),
    ),
    balanced: best(
      all.map(([nodeId, own]) => ({
        nodeId,
        value:
          own.length === 0
            ? 0
            : Math.round((100 * own.reduce((sum, lane) => sum + balance(lane), 0)) / own.length),
        more: own.length,
      })),
    ),
  };
}
