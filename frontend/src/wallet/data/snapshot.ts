/** A node at a moment: what the wallet shows, and what it keeps for the time when the node cannot be reached. */
import { maybeText, numberOr, object, text } from '../../lib/shape';
import type { ChainMove, Channel } from './channels';
import type { Coin, Transaction } from './coins';
import type { Forward, OwnInvoice, Payment } from './payments';
import { shortId, type Person } from './people';

/** The node itself. */
export interface Self {
  readonly nodeId: string;
  readonly alias: string;
  readonly color: string | null;
  readonly height: number;
  readonly network: string;
  readonly version: string;
}

/** All of it. */
export interface Snapshot {
  /** Milliseconds since 1970. */
  readonly takenAt: number;
  readonly self: Self;
  readonly coins: readonly Coin[];
  readonly channels: readonly Channel[];
  readonly room: readonly Person[];
  readonly gossip: readonly Person[];
  readonly payments: readonly Payment[];
  readonly invoices: readonly OwnInvoice[];
  readonly forwards: readonly Forward[];
  readonly moves: readonly ChainMove[];
  readonly transactions: readonly Transaction[];
}

/** Reads the answer of `getinfo`. */
export function readSelf(answer: unknown): Self {
  const from = object(answer, 'getinfo');
  const nodeId = text(from, 'id');
  const color = maybeText(from, 'color');
  return {
    nodeId,
    alias: maybeText(from, 'alias') ?? shortId(nodeId),
    color: color !== null && /^[0-9a-fA-F]{6}$/.test(color) ? `#${color.toLowerCase()}` : null,
    height: numberOr(from, 'blockheight', 0),
    network: maybeText(from, 'network') ?? '',
    version: maybeText(from, 'version') ?? '',
  };
}
