/** Payments as the node has them: invoices, payments of its own, forwards. Amounts in msat, times in seconds since 1970. */
import { readMsat } from '../../lib/money';
import { list, maybeText, numberOr, object, text } from '../../lib/shape';

/** An invoice of this node. */
export interface OwnInvoice {
  readonly index: number;
  readonly label: string;
  readonly text: string;
  readonly paymentHash: string;
  readonly msat: number | null;
  readonly receivedMsat: number;
  readonly description: string;
  readonly status: 'unpaid' | 'paid' | 'expired';
  readonly paidAt: number;
  readonly expiresAt: number;
  /** The offer that it was made for. */
  readonly offerId: string | null;
}

/** Reads the answer of `listinvoices`. */
export function readInvoices(answer: unknown): OwnInvoice[] {
  return list(object(answer, 'listinvoices'), 'invoices').map((item) => {
    const from = object(item, 'invoice');
    const status = text(from, 'status');
    return {
      index: numberOr(from, 'created_index', 0),
      label: maybeText(from, 'label') ?? '',
      text: maybeText(from, 'bolt11') ?? maybeText(from, 'bolt12') ?? '',
      paymentHash: text(from, 'payment_hash'),
      msat: from['amount_msat'] === undefined ? null : readMsat(from['amount_msat']),
      receivedMsat: readMsat(from['amount_received_msat']),
      description: maybeText(from, 'description') ?? '',
      status: status === 'paid' || status === 'expired' ? status : 'unpaid',
      paidAt: numberOr(from, 'paid_at', 0),
      expiresAt: numberOr(from, 'expires_at', 0),
      offerId: maybeText(from, 'local_offer_id'),
    };
  });
}

/** A payment of this node: all parts of all tries. */
export interface Payment {
  readonly paymentHash: string;
  readonly destination: string | null;
  readonly status: 'complete' | 'pending' | 'failed';
  readonly msat: number;
  readonly sentMsat: number;
  readonly createdAt: number;
  readonly parts: number;
  readonly failedParts: number;
  readonly label: string | null;
  readonly description: string | null;
  /** For an offer. */
  readonly isBolt12: boolean;
}

/** Reads the answer of `listsendpays`, which lists parts, and puts the parts of a payment together. */
export function readPayments(answer: unknown): Payment[] {
  const parts = list(object(answer, 'listsendpays'), 'payments').map((item) => {
    const from = object(item, 'payment');
    const status = text(from, 'status');
    return {
      paymentHash: text(from, 'payment_hash'),
      destination: maybeText(from, 'destination'),
      status: status === 'complete' || status === 'failed' ? status : ('pending' as const),
      msat: readMsat(from['amount_msat']),
      sentMsat: readMsat(from['amount_sent_msat']),
      createdAt: Math.floor(numberOr(from, 'created_at', 0)),
      label: maybeText(from, 'label'),
      description: maybeText(from, 'description'),
      isBolt12: maybeText(from, 'bolt12') !== null,
    };
  });
  const byHash = new Map<string, typeof parts>();
  for (const part of parts) byHash.set(part.paymentHash, [...(byHash.get(part.paymentHash) ?? []), part]);
  return [...byHash].map(([paymentHash, all]): Payment => {
    const with_ = (status: Payment['status']) => all.filter((part) => part.status === status);
    const complete = with_('complete');
    const pending = with_('pending');
    const status = complete.length > 0 ? 'complete' : pending.length > 0 ? 'pending' : 'failed';
    const shown = status === 'complete' ? complete : status === 'pending' ? pending : all.slice(-1);
    const first = <T>(pick: (part: (typeof parts)[number]) => T | null) =>
      all.map(pick).find((value) => value !== null) ?? null;
    return {
      paymentHash,
      destination: first((part) => part.destination),
      status,
      msat: shown.reduce((total, part) => total + part.msat, 0),
      sentMsat: shown.reduce((total, part) => total + part.sentMsat, 0),
      createdAt: Math.min(...all.map((part) => part.createdAt)),
      parts: shown.length,
      failedParts: with_('failed').length,
      label: first((part) => part.label),
      description: first((part) => part.description),
      isBolt12: all.some((part) => part.isBolt12),
    };
  });
}

/** What the wallet's own payments to itself are labelled with. */
export const MOVE_LABEL = 'move-';

/** Whether a payment to oneself went through channels: a node that pays its own invoice at home moves nothing. */
export function hasMoved(payment: Payment): boolean {
  return payment.sentMsat > payment.msat || payment.label?.startsWith(MOVE_LABEL) === true;
}

/** A payment of others that came through. */
export interface Forward {
  readonly index: number;
  readonly inScid: string;
  readonly outScid: string | null;
  readonly inMsat: number;
  readonly outMsat: number;
  readonly feeMsat: number;
  readonly status: 'settled' | 'offered' | 'failed';
  readonly reason: string | null;
  readonly at: number;
}

/** Reads the answer of `listforwards`. */
export function readForwards(answer: unknown): Forward[] {
  return list(object(answer, 'listforwards'), 'forwards').map((item) => {
    const from = object(item, 'forward');
    const status = text(from, 'status');
    return {
      index: numberOr(from, 'created_index', 0),
      inScid: text(from, 'in_channel'),
      outScid: maybeText(from, 'out_channel'),
      inMsat: readMsat(from['in_msat']),
      outMsat: readMsat(from['out_msat']),
      feeMsat: readMsat(from['fee_msat']),
      status: status === 'settled' || status === 'offered' ? status : 'failed',
      reason: maybeText(from, 'failreason'),
      at: Math.floor(numberOr(from, 'resolved_time', numberOr(from, 'received_time', 0))),
    };
  });
}

/** What forwards have earned, msat. */
export function earned(forwards: readonly Forward[]): number {
  return forwards.filter((f) => f.status === 'settled').reduce((sum, f) => sum + f.feeMsat, 0);
}
