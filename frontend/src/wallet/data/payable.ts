/** Invoices and offers, as the node's `decode` reads them. */
import { maybeText, numberOr, object, text, type Json } from '../../lib/shape';

/** An invoice, of either kind. */
export interface Invoice {
  readonly kind: 'bolt11' | 'bolt12';
  readonly text: string;
  readonly payee: string;
  /** Null where the payer chooses. */
  readonly amountMsat: number | null;
  readonly description: string | null;
  /** Seconds since 1970. */
  readonly expiresAt: number;
  readonly paymentHash: string;
}

/** An offer: something that invoices can be fetched for, again and again. */
export interface Offer {
  readonly kind: 'offer';
  readonly text: string;
  /** Null where it is hidden behind a path. */
  readonly payee: string | null;
  readonly amountMsat: number | null;
  readonly description: string | null;
  readonly issuer: string | null;
}

/** Something to pay. */
export type Payable = Invoice | Offer;

/** Why something cannot be paid. */
export class NotPayable extends Error {
  override name = 'NotPayable';
  constructor(readonly reason: 'invalid' | 'currency' | 'kind') {
    super(reason);
  }
}

function maybeNumber(from: Json, key: string): number | null {
  const value = from[key];
  return typeof value === 'number' && value > 0 ? value : null;
}

/** Reads the answer of `decode` to `given`. Throws [`NotPayable`] or a `ShapeError`. */
export function readPayable(answer: unknown, given: string): Payable {
  const from = object(answer, 'decode');
  if (from['valid'] !== true) throw new NotPayable('invalid');
  switch (text(from, 'type')) {
    case 'bolt11 invoice':
      if (text(from, 'currency') !== 'bcrt') throw new NotPayable('currency');
      return {
        kind: 'bolt11',
        text: given,
        payee: text(from, 'payee'),
        amountMsat: maybeNumber(from, 'amount_msat'),
        description: maybeText(from, 'description'),
        expiresAt: numberOr(from, 'created_at', 0) + numberOr(from, 'expiry', 3600),
        paymentHash: text(from, 'payment_hash'),
      };
    case 'bolt12 invoice':
      return {
        kind: 'bolt12',
        text: given,
        payee: text(from, 'invoice_node_id'),
        amountMsat: maybeNumber(from, 'invoice_amount_msat'),
        description: maybeText(from, 'offer_description'),
        expiresAt: numberOr(from, 'invoice_created_at', 0) + numberOr(from, 'invoice_relative_expiry', 7200),
        paymentHash: text(from, 'invoice_payment_hash'),
      };
    case 'bolt12 offer':
      // In another currency the node would have to know a rate.
      if (from['offer_currency'] !== undefined) throw new NotPayable('currency');
      return {
        kind: 'offer',
        text: given,
        payee: maybeText(from, 'offer_issuer_id'),
        amountMsat: maybeNumber(from, 'offer_amount_msat'),
        description: maybeText(from, 'offer_description'),
        issuer: maybeText(from, 'offer_issuer'),
      };
    default:
      throw new NotPayable('kind');
  }
}
