/** Coins on chain. */
import { readMsat } from '../../lib/money';
import { list, maybeText, numberOr, object, text } from '../../lib/shape';

/** An output of the node's wallet. */
export interface Coin {
  readonly txid: string;
  readonly index: number;
  readonly msat: number;
  readonly status: 'confirmed' | 'unconfirmed' | 'immature';
  readonly height: number | null;
  readonly reserved: boolean;
}

/** Reads the outputs in the answer of `listfunds`; those that are spent are left out. */
export function readCoins(answer: unknown): Coin[] {
  return list(object(answer, 'listfunds'), 'outputs')
    .map((item) => object(item, 'output'))
    .filter((from) => from['status'] !== 'spent')
    .map((from) => {
      const status = text(from, 'status');
      return {
        txid: text(from, 'txid'),
        index: numberOr(from, 'output', 0),
        msat: readMsat(from['amount_msat']),
        status: status === 'confirmed' || status === 'immature' ? status : 'unconfirmed',
        height: typeof from['blockheight'] === 'number' ? from['blockheight'] : null,
        reserved: from['reserved'] === true,
      };
    });
}

/** The sum of some coins, msat. */
export function sum(coins: readonly Coin[]): number {
  return coins.reduce((total, coin) => total + coin.msat, 0);
}

/** Coins that can be spent now. */
export function spendable(coins: readonly Coin[]): Coin[] {
  return coins.filter((coin) => coin.status === 'confirmed' && !coin.reserved);
}

/** Coins that wait for a block. */
export function pending(coins: readonly Coin[]): Coin[] {
  return coins.filter((coin) => coin.status !== 'confirmed');
}

/** A transaction that concerns the node, and the block that it is in; 0 while it is in none. */
export interface Transaction {
  readonly txid: string;
  readonly height: number;
}

/** Reads the answer of `listtransactions`. */
export function readTransactions(answer: unknown): Transaction[] {
  return list(object(answer, 'listtransactions'), 'transactions').map((item) => {
    const from = object(item, 'transaction');
    return { txid: maybeText(from, 'hash') ?? text(from, 'txid'), height: numberOr(from, 'blockheight', 0) };
  });
}
