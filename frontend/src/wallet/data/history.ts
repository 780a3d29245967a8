/** The history: everything that came, went and passed, in one list. */
import { paymentOf, type Attempt } from './attempts';
import type { Channel } from './channels';
import type { Trouble } from './failure';
import { hasMoved, type Forward, type OwnInvoice, type Payment } from './payments';
import type { Plan } from './route';

/** Something that happened. */
export interface Entry {
  readonly id: string;
  /** `self`: an own invoice, paid without leaving the node. */
  readonly kind: 'sent' | 'received' | 'forwarded' | 'moved' | 'self';
  readonly status: 'done' | 'pending' | 'failed';
  /** Seconds since 1970. */
  readonly at: number;
  readonly msat: number;
  /** What it cost, or earned. */
  readonly feeMsat: number;
  /** Whom it went to or came from; a forward's two neighbours. */
  readonly who: readonly string[];
  readonly description: string | null;
  readonly plan: Plan | null;
  readonly trouble: Trouble | null;
  readonly paymentHash: string | null;
}

function ofPayment(payment: Payment, attempt: Attempt | null, self: string): Entry {
  return {
    id: `p${payment.paymentHash}`,
    kind: payment.destination !== self ? 'sent' : hasMoved(payment) ? 'moved' : 'self',
    status: payment.status === 'complete' ? 'done' : payment.status,
    at: payment.createdAt,
    msat: payment.msat,
    feeMsat: payment.status === 'complete' ? Math.max(0, payment.sentMsat - payment.msat) : 0,
    who: payment.destination === null || payment.destination === self ? [] : [payment.destination],
    description: attempt?.description ?? payment.description,
    plan: attempt?.plan ?? null,
    trouble: payment.status === 'failed' ? (attempt?.trouble ?? null) : null,
    paymentHash: payment.paymentHash,
  };
}

function ofAttempt(attempt: Attempt): Entry {
  return {
    id: `a${attempt.id}`,
    kind: attempt.kind === 'rebalance' ? 'moved' : 'sent',
    status: attempt.state === 'paid' ? 'done' : attempt.state === 'failed' ? 'failed' : 'pending',
    at: Math.floor(attempt.startedAt / 1000),
    msat: attempt.msat,
    feeMsat: attempt.feeMsat ?? 0,
    who: attempt.destination === null || attempt.kind === 'rebalance' ? [] : [attempt.destination],
    description: attempt.description,
    plan: attempt.plan,
    trouble: attempt.trouble,
    paymentHash: attempt.paymentHash,
  };
}

/** What the history is made of. */
export interface Sources {
  readonly self: string;
  readonly payments: readonly Payment[];
  readonly invoices: readonly OwnInvoice[];
  readonly forwards: readonly Forward[];
  readonly channels: readonly Channel[];
  readonly attempts: readonly Attempt[];
}

/** Merges it all, newest first. A payment to oneself is one entry, not an outgoing and an incoming one. */
export function history({ self, payments, invoices, forwards, channels, attempts }: Sources): Entry[] {
  const own = new Set(payments.map(({ paymentHash }) => paymentHash));
  const peerOf = (scid: string | null) =>
    channels.find((c) => c.scid !== null && c.scid === scid)?.peerId ?? null;
  const ofNode = (payment: Payment) =>
    attempts.find((attempt) => paymentOf(attempt, [payment]) !== null) ?? null;
  const entries: Entry[] = [
    ...payments.map((payment) => ofPayment(payment, ofNode(payment), self)),
    ...attempts.filter((attempt) => paymentOf(attempt, payments) === null).map(ofAttempt),
    ...invoices
      .filter((invoice) => invoice.status === 'paid' && !own.has(invoice.paymentHash))
      .map((invoice): Entry => ({
        id: `i${invoice.paymentHash}`,
        kind: 'received',
        status: 'done',
        at: invoice.paidAt,
        msat: invoice.receivedMsat,
        feeMsat: 0,
        who: [],
        description: invoice.description === '' ? null : invoice.description,
        plan: null,
        trouble: null,
        paymentHash: invoice.paymentHash,
      })),
    ...forwards.map((forward): Entry => ({
      id: `f${forward.index}`,
      kind: 'forwarded',
      status: forward.status === 'settled' ? 'done' : forward.status === 'offered' ? 'pending' : 'failed',
      at: forward.at,
      msat: forward.outMsat > 0 ? forward.outMsat : forward.inMsat,
      feeMsat: forward.status === 'settled' ? forward.feeMsat : 0,
      who: [peerOf(forward.inScid), peerOf(forward.outScid)].filter((id): id is string => id !== null),
      description: forward.reason,
      plan: null,
      trouble: null,
      paymentHash: null,
    })),
  ];
  return entries.sort((a, b) => b.at - a.at || (a.id < b.id ? 1 : -1));
}
