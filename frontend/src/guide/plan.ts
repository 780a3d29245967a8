/** Lesson plans, as data. Their texts are in `text/`, one module for each language; words in quotes are those of the wallet and the wall. */
import type { PlanId } from '../lib/routes';

/** A step of a lesson. */
export interface Step {
  readonly minutes: number;
  readonly title: string;
  /** What the teacher says, in about these words. */
  readonly say: string;
  /** What all do. */
  readonly all: readonly string[];
  /** What the wall shows then. */
  readonly wall: string;
}

/** A lesson. */
export interface Plan {
  readonly id: PlanId;
  readonly title: string;
  readonly minutes: number;
  readonly audience: string;
  /** What is ready before people come. */
  readonly before: readonly string[];
  readonly steps: readonly Step[];
}
