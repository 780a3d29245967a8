/**
 * The wallet's own record of what it tried to pay. The node forgets a payment that never left, and knows no reason for one
 * that failed; and an answer can be lost on the way, after which only this says what to look for.
 */
import type { Payment } from './payments';
import type { Plan } from './route';
import type { Trouble } from './failure';

/** A payment that was tried. */
export interface Attempt {
  readonly id: string;
  readonly kind: 'invoice' | 'keysend' | 'rebalance';
  /** How the node knows it: by hash, or, where the node makes the hash, by label. */
  readonly paymentHash: string | null;
  readonly label: string | null;
  readonly destination: string | null;
  readonly msat: number;
  readonly description: string | null;
  /** Milliseconds since 1970. */
  readonly startedAt: number;
  /** `unknown`: no answer came; the node is asked what became of it. */
  readonly state: 'sending' | 'unknown' | 'paid' | 'failed';
  readonly feeMsat: number | null;
  readonly parts: number | null;
  readonly plan: Plan | null;
  readonly trouble: Trouble | null;
}

/** How many are kept. */
const KEPT = 60;

/** Adds an attempt, or puts it in the place of the one with its id. Newest first. */
export function record(attempts: readonly Attempt[], attempt: Attempt): Attempt[] {
  const at = attempts.findIndex(({ id }) => id === attempt.id);
  if (at < 0) return [attempt, ...attempts].slice(0, KEPT);
  return attempts.map((other, i) => (i === at ? attempt : other));
}

/** The node's record of an attempt. */
export function paymentOf(attempt: Attempt, payments: readonly Payment[]): Payment | null {
  const found = payments.find(
    (payment) =>
      (attempt.paymentHash !== null && payment.paymentHash === attempt.paymentHash) ||
      (attempt.label !== null && payment.label === attempt.label),
  );
  return found ?? null;
}

/** After this an attempt that the node has no record of never left, in milliseconds: longer than a call may take. */
const NEVER_LEFT = 120_000;

/**
 * Brings an attempt whose answer did not come up to date with what the node says. `isOurs` says whether this page still
 * waits for the answer.
 */
export function reconcile(
  attempt: Attempt,
  payments: readonly Payment[],
  now: number,
  isOurs: boolean,
): Attempt {
  if (attempt.state === 'paid' || attempt.state === 'failed' || isOurs) return attempt;
  const payment = paymentOf(attempt, payments);
  if (payment?.status === 'complete') {
    return { ...attempt, state: 'paid', feeMsat: payment.sentMsat - payment.msat, parts: payment.parts };
  }
  if (payment?.status === 'pending')
    return attempt.state === 'unknown' ? attempt : { ...attempt, state: 'unknown' };
  const isOver = now - attempt.startedAt > NEVER_LEFT;
  // One that failed may be tried again by the node for as long as the call lasts.
  if (isOver) {
    const trouble = { code: 0, message: payment === null ? 'never left' : 'failed', raw: null };
    return { ...attempt, state: 'failed', trouble: attempt.trouble ?? trouble };
  }
  return attempt.state === 'unknown' ? attempt : { ...attempt, state: 'unknown' };
}

/** The attempt that stands in the way of another one for the same invoice. */
export function underWay(attempts: readonly Attempt[], paymentHash: string): Attempt | null {
  const busy = attempts.find(
    (attempt) =>
      attempt.paymentHash === paymentHash && (attempt.state === 'sending' || attempt.state === 'unknown'),
  );
  return busy ?? null;
}
