/** What the wall shows, as plain data. */
import type { Happening } from './happenings';
import type { Lane } from './picture';
import type { Standings } from './standings';

/** Whether a node takes part. `refused`: it does not accept its card any more. */
export type Presence = 'connecting' | 'here' | 'away' | 'refused';

/** A node on the wall. */
export interface Seat {
  readonly nodeId: string;
  readonly name: string;
  /** As CSS writes it. */
  readonly color: string;
  readonly presence: Presence;
}

/** Everything that the wall shows. */
export interface Show {
  readonly seats: readonly Seat[];
  readonly lanes: readonly Lane[];
  /** 0 while unknown. */
  readonly height: number;
  /** The newest first. */
  readonly happenings: readonly Happening[];
  readonly standings: Standings;
}
