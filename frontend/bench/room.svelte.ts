/* eslint svelte/prefer-svelte-reactivity: 'off' -- no template reads the maps and sets in here */
/** A room that does not exist: nodes, channels and payments made up from a seed, for pictures and measurements of the wall. */
import { NAMES, nodeColor } from '../src/lib/palette';
import { told, type Event, type Happening } from '../src/wall/data/happenings';
import type { Lane } from '../src/wall/data/picture';
import { between, earnedBy, type Step } from '../src/wall/data/route';
import type { Seat, Show } from '../src/wall/data/seat';
import { standings, type Routed, type Standings } from '../src/wall/data/standings';

/** Numbers from 0 to 1 that are the same for the same seed (mulberry32). */
function numbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const MORE = 'Quinn Rosa Sami Tess Ugo Vera Walt Xenia Yara Zeno Ada Björn Chloé Dario Esra Finn Gwen Hana Ines Jack Kira Leon Mona Noah Oskar Petra Raul Selma Theo Uma Viktor Wanda Xaver Ylva Zora Amir Bea Cem Dora Emil Fay Gus Hilda Ivo Joy Karl Lena Milo'; // prettier-ignore

export class MadeUp implements Show {
  readonly seats: readonly Seat[];
  lanes = $state.raw<readonly Lane[]>([]);
  height = $state(1141);
  happenings = $state.raw<readonly Happening[]>([]);
  #routed = $state.raw<ReadonlyMap<string, Routed>>(new Map());
  readonly standings: Standings = $derived.by(() =>
    standings(
      this.seats.map(({ nodeId }) => nodeId),
      this.lanes,
      this.#routed,
    ),
  );
  readonly #random: () => number;

  constructor(count: number, seed: number) {
    this.#random = numbers(seed);
    const names = [...NAMES, ...MORE.split(' ')];
    this.seats = Array.from({ length: count }, (_, i) => ({
      nodeId: `02${String(i).padStart(64, '0')}`,
      name: names[i] ?? `Node ${i}`,
      color: nodeColor(i),
      presence: i === 13 ? 'away' : 'here',
    }));
    this.lanes = this.seats.flatMap((_, i) => [
      this.#lane(i, (i + 1) % count, i),
      ...(i % 3 === 0 ? [this.#lane(i, Math.floor(this.#random() * count), count + i)] : []),
    ]);
  }

  #lane(i: number, j: number, number: number): Lane {
    const [a, b] = [this.seats[Math.min(i, j)]?.nodeId ?? '', this.seats[Math.max(i, j)]?.nodeId ?? ''];
    const totalMsat = 10 ** (8 + this.#random() * 2.5);
    const phase = number % 23 === 7 ? 'opening' : number % 29 === 11 ? 'closing' : 'open';
    return {
      channelId: `c${number}`,
      scid: `${number}x1x0`,
      a,
      b,
      aMsat: totalMsat * this.#random(),
      totalMsat,
      phase,
      opener: a,
      closer: b,
      isForced: false,
      confirmations: phase === 'opening' ? 0 : number % 11 === 3 ? 3 : 6,
    };
  }

  /** A payment over two to four channels. */
  pay(): void {
    const steps: Step[] = [];
    const seat = this.seats[Math.floor(this.#random() * this.seats.length)];
    let at = seat?.nodeId ?? '';
    const passed = new Set([at]);
    const hops = 2 + Math.floor(this.#random() * 3);
    while (steps.length < hops) {
      const ways = this.lanes.filter(
        (lane) => lane.phase === 'open' && ((lane.a === at && !passed.has(lane.b)) || (lane.b === at && !passed.has(lane.a))), // prettier-ignore
      );
      const lane = ways[Math.floor(this.#random() * ways.length)];
      if (lane === undefined) break;
      const to = lane.a === at ? lane.b : lane.a;
      const msat = 21_000_000 + 1000 * (4 - steps.length);
      steps.push({ from: at, to, channelId: lane.channelId, msat, depth: steps.length });
      this.lanes = this.lanes.map((one) =>
        one === lane
          ? { ...one, aMsat: Math.min(one.totalMsat, Math.max(0, one.aMsat + (one.a === at ? -msat : msat))) }
          : one,
      );
      passed.add(to);
      at = to;
    }
    const from = seat?.nodeId ?? '';
    if (steps.length === 0) return;
    const routed = new Map(this.#routed);
    for (const nodeId of between(steps, from, at)) {
      const { count = 0, feesMsat = 0 } = routed.get(nodeId) ?? {};
      routed.set(nodeId, { count: count + 1, feesMsat: feesMsat + earnedBy(steps, nodeId) });
    }
    this.#routed = routed;
    const isFailed = this.#random() < 0.1;
    const event: Event = isFailed
      ? { kind: 'failed', from, to: this.seats[0]?.nodeId ?? at, msat: 21_000_000, steps, stoppedAt: at, towards: null, reason: 'WIRE_TEMPORARY_CHANNEL_FAILURE' }
      : { kind: 'paid', from, to: at, msat: 21_000_000, feeMsat: 1000 * (steps.length - 1), steps }; // prettier-ignore
    this.happenings = told(this.happenings, event, Date.now());
  }

  mine(): void {
    this.height += 1;
    this.happenings = told(this.happenings, { kind: 'block', height: this.height }, Date.now());
  }
}
