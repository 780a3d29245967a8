/** What nodes answer, read for the wall. Field names and states are those of Core Lightning 26.04. Amounts in msat. */
import { readMsat } from '../../lib/money';
import { list, maybeText, numberOr, object, text } from '../../lib/shape';

/** A part of a payment, on its sender's side: a row of `listsendpays`. */
export interface Part {
  readonly paymentHash: string;
  readonly destination: string | null;
  readonly msat: number;
  readonly sentMsat: number;
  readonly status: 'pending' | 'complete' | 'failed';
  /** Position among all rows by their last change; 0 of a row that has not changed yet. */
  readonly updatedIndex: number;
}

/** Reads the answer of `listsendpays`. */
export function readParts(answer: unknown): Part[] {
  return list(object(answer, 'listsendpays'), 'payments').map((item) => {
    const from = object(item, 'payment');
    const status = text(from, 'status');
    return {
      paymentHash: text(from, 'payment_hash'),
      destination: maybeText(from, 'destination'),
      msat: readMsat(from['amount_msat']),
      sentMsat: readMsat(from['amount_sent_msat']),
      status: status === 'complete' || status === 'failed' ? status : 'pending',
      updatedIndex: numberOr(from, 'updated_index', 0),
    };
  });
}

/** Coins that moved in a channel when a payment was settled: a row of `listchannelmoves`. */
export interface Move {
  readonly index: number;
  readonly channelId: string;
  readonly creditMsat: number;
  readonly debitMsat: number;
  readonly paymentHash: string | null;
  /** What this node earned by passing it on, or paid as the sender. */
  readonly feesMsat: number;
}

/** Reads the answer of `listchannelmoves`. */
export function readMoves(answer: unknown): Move[] {
  return list(object(answer, 'listchannelmoves'), 'channelmoves').map((item) => {
    const from = object(item, 'move');
    return {
      index: numberOr(from, 'created_index', 0),
      channelId: text(from, 'account_id'),
      creditMsat: readMsat(from['credit_msat']),
      debitMsat: readMsat(from['debit_msat']),
      paymentHash: maybeText(from, 'payment_hash'),
      feesMsat: readMsat(from['fees_msat']),
    };
  });
}

/** A payment's passage through one end of a channel, settled or not: a row of `listhtlcs`. */
export interface Htlc {
  readonly index: number;
  readonly scid: string;
  /** Its number within the channel and direction. */
  readonly id: number;
  readonly direction: 'in' | 'out';
  readonly msat: number;
  readonly paymentHash: string;
}

/** Reads the answer of `listhtlcs`. */
export function readHtlcs(answer: unknown): Htlc[] {
  return list(object(answer, 'listhtlcs'), 'htlcs').map((item) => {
    const from = object(item, 'htlc');
    return {
      index: numberOr(from, 'created_index', 0),
      scid: text(from, 'short_channel_id'),
      id: numberOr(from, 'id', 0),
      direction: from['direction'] === 'in' ? 'in' : 'out',
      msat: readMsat(from['amount_msat']),
      paymentHash: text(from, 'payment_hash'),
    };
  });
}

/** A payment that a node was asked to pass on and did not: a row of `listforwards`. */
export interface Refusal {
  readonly inScid: string;
  readonly inHtlcId: number;
  /** Null where the node could not tell where it should go. */
  readonly outScid: string | null;
  /** BOLT 4's name, such as `WIRE_TEMPORARY_CHANNEL_FAILURE`; null where another node failed it. */
  readonly reason: string | null;
}

/** Reads the failed rows in the answer of `listforwards`. */
export function readRefusals(answer: unknown): Refusal[] {
  return list(object(answer, 'listforwards'), 'forwards')
    .map((item) => object(item, 'forward'))
    .filter((from) => from['status'] === 'failed' || from['status'] === 'local_failed')
    .map((from) => ({
      inScid: text(from, 'in_channel'),
      inHtlcId: numberOr(from, 'in_htlc_id', -1),
      outScid: maybeText(from, 'out_channel'),
      reason: maybeText(from, 'failreason'),
    }));
}
