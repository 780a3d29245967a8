/** Missions: what attendees will have done by the end, ticked off by what the node did. */
import { closingOfAccount, type ChainMove, type Channel } from './channels';
import { earned, hasMoved, type Forward, type OwnInvoice, type Payment } from './payments';
import type { Attempt } from './attempts';

/** All missions: the six promises of the landing page, then three more. */
export const MISSIONS = [
  'open',
  'receive',
  'route',
  'fail',
  'move',
  'settle',
  'offer',
  'earn',
  'force',
] as const;

export type Mission = (typeof MISSIONS)[number];

/** The six promises of the landing page. */
export const PROMISES = 6;

/** When each was accomplished, milliseconds since 1970. */
export type Accomplished = Readonly<Partial<Record<Mission, number>>>;

/** What the node has done. */
export interface Deeds {
  readonly self: string;
  readonly channels: readonly Channel[];
  readonly moves: readonly ChainMove[];
  readonly payments: readonly Payment[];
  readonly invoices: readonly OwnInvoice[];
  readonly forwards: readonly Forward[];
  readonly attempts: readonly Attempt[];
}

/** What forwards must have earned together, msat: a fee that was set, not the one that nodes begin with. */
const WAGE = 1000;

function isDone(mission: Mission, deeds: Deeds): boolean {
  const { channels, moves, payments, invoices, forwards, attempts, self } = deeds;
  const paidSelf = (payment: Payment) => payment.destination === self && payment.status === 'complete';
  const closed = [
    ...new Set(moves.filter((move) => move.tag === 'channel_close').map((move) => move.account)),
  ];
  const closings = closed.map((account) =>
    closingOfAccount(account, moves, channels.find((channel) => channel.channelId === account) ?? null),
  );
  switch (mission) {
    case 'open':
      return channels.some((channel) => channel.openedByUs && channel.scid !== null);
    case 'receive': {
      const own = new Set(payments.filter(paidSelf).map(({ paymentHash }) => paymentHash));
      return invoices.some((invoice) => invoice.status === 'paid' && !own.has(invoice.paymentHash));
    }
    case 'route':
      return forwards.some((forward) => forward.status === 'settled');
    case 'fail':
      return (
        payments.some((payment) => payment.status === 'failed') ||
        // A failure that the node reported before anything left it.
        attempts.some(
          (attempt) => attempt.state === 'failed' && attempt.trouble !== null && attempt.trouble.code > 0,
        )
      );
    case 'move':
      return payments.some((payment) => paidSelf(payment) && hasMoved(payment));
    case 'settle':
      return closings.some(({ step }) => step === 'settled');
    case 'offer':
      return payments.some((payment) => payment.isBolt12 && payment.status === 'complete');
    case 'earn':
      return earned(forwards) >= WAGE;
    case 'force':
      return closings.some(({ kind, step }) => kind === 'forced' && step === 'settled');
  }
}

/** Adds what has been accomplished since; the same object where nothing has. */
export function tick(before: Accomplished, deeds: Deeds, now: number): Accomplished {
  const fresh = MISSIONS.filter((mission) => before[mission] === undefined && isDone(mission, deeds));
  return fresh.length === 0
    ? before
    : { ...before, ...Object.fromEntries(fresh.map((mission) => [mission, now])) };
}
