/** What the wall tells: events of the room, as data. */
import type { Lane } from './picture';
import { between, type Failure, type Step } from './route';

/** A payment that arrived. Amounts in msat. */
export interface Paid {
  readonly kind: 'paid';
  readonly from: string;
  /** Null where the sender does not know, as with some offers. */
  readonly to: string | null;
  readonly msat: number;
  readonly feeMsat: number;
  readonly steps: readonly Step[];
}

/** A payment that did not. */
export interface Failed extends Failure {
  readonly kind: 'failed';
  readonly from: string;
  readonly to: string | null;
  readonly msat: number;
}

/** An event. */
export type Event =
  | Paid
  | Failed
  | { readonly kind: 'block'; readonly height: number }
  | { readonly kind: 'opening' | 'opened' | 'closing' | 'closed'; readonly lane: Lane }
  | { readonly kind: 'away' | 'back'; readonly nodeId: string };

/** An event with its number, which grows, and its time in milliseconds since 1970. */
export interface Happening {
  readonly id: number;
  readonly at: number;
  readonly event: Event;
}

/** The nodes that an event is about, in the order in which they are told. */
export function nodesOf(event: Event): string[] {
  switch (event.kind) {
    case 'paid': {
      const ends = event.to === null || event.to === event.from ? [] : [event.to];
      return [event.from, ...ends, ...between(event.steps, event.from, event.to)];
    }
    case 'failed':
      return event.to === null ? [event.from] : [event.from, event.to];
    case 'block':
      return [];
    case 'away':
    case 'back':
      return [event.nodeId];
    default: {
      const first = (event.kind === 'closing' ? event.lane.closer : null) ?? event.lane.opener;
      return [first, first === event.lane.a ? event.lane.b : event.lane.a];
    }
  }
}

/** How many events are kept. */
const KEPT = 40;

/** Adds an event in front. Of the blocks only the newest is kept: they come all the time. */
export function told(list: readonly Happening[], event: Event, at: number): Happening[] {
  const rest = event.kind === 'block' ? list.filter((one) => one.event.kind !== 'block') : list;
  return [{ id: (list[0]?.id ?? 0) + 1, at, event }, ...rest].slice(0, KEPT);
}
