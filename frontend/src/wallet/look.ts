/** Asks a node for what a snapshot is made of. */
import { RpcError } from '../lib/node/node';
import type { Link } from '../lib/node/link';
import { numberOr, object } from '../lib/shape';
import { readChainMoves, readChannels } from './data/channels';
import { readCoins, readTransactions } from './data/coins';
import { readForwards, readInvoices, readPayments } from './data/payments';
import { readGossip, readRoom, ROOM_KEY } from './data/people';
import { readSelf, type Snapshot } from './data/snapshot';

/** Parts of a snapshot, which change at different times. */
export type Part = 'state' | 'payments' | 'chain' | 'room';

/** All of them. */
export const PARTS: readonly Part[] = ['state', 'payments', 'chain', 'room'];

/** How many of its newest payments, invoices and forwards a node is asked for. */
const NEWEST = 200;

const UNKNOWN_METHOD = -32601;

/** Whether a node does not know a method; older and simpler ones lack some. */
export function isUnknownMethod(error: unknown): boolean {
  return error instanceof RpcError && error.code === UNKNOWN_METHOD;
}

type Call = (method: string, params?: Record<string, unknown>) => Promise<unknown>;

/** The answer, or an empty one from a node that does not know the method. */
async function maybe(call: Call, method: string, params: Record<string, unknown> = {}): Promise<unknown> {
  try {
    return await call(method, params);
  } catch (error) {
    if (isUnknownMethod(error)) return {};
    throw error;
  }
}

/** The newest rows of a table that has an index. */
async function newest(call: Call, method: string, subsystem: string): Promise<unknown> {
  let last: number;
  try {
    const answer = await call('wait', { subsystem, indexname: 'created', nextvalue: 0 });
    last = numberOr(object(answer, 'wait'), 'created', 0);
  } catch (error) {
    if (isUnknownMethod(error)) return await maybe(call, method);
    throw error;
  }
  if (last <= NEWEST) return await call(method);
  return await call(method, { index: 'created', start: last - NEWEST + 1 });
}

/** Brings the wanted parts of a snapshot up to date. */
export async function look(
  link: Link,
  signal: AbortSignal,
  before: Snapshot | null,
  wanted: ReadonlySet<Part>,
): Promise<Snapshot> {
  const call: Call = (method, params = {}) => link.call(method, params, { signal });
  const needs = (part: Part) => before === null || wanted.has(part);
  const [state, payments, chain, room] = await Promise.all([
    needs('state') ? Promise.all([call('getinfo'), call('listfunds'), call('listpeerchannels')]) : null,
    needs('payments')
      ? Promise.all([
          newest(call, 'listsendpays', 'sendpays'),
          newest(call, 'listinvoices', 'invoices'),
          newest(call, 'listforwards', 'forwards'),
        ])
      : null,
    needs('chain')
      ? Promise.all([newest(call, 'listchainmoves', 'chainmoves'), maybe(call, 'listtransactions')])
      : null,
    needs('room') ? Promise.all([maybe(call, 'listdatastore', { key: ROOM_KEY }), call('listnodes')]) : null,
  ]);
  const empty: Omit<Snapshot, 'self' | 'takenAt'> = {
    coins: [],
    channels: [],
    room: [],
    gossip: [],
    payments: [],
    invoices: [],
    forwards: [],
    moves: [],
    transactions: [],
  };
  return {
    ...(before ?? empty),
    takenAt: Date.now(),
    // Without a snapshot before, all parts were asked for.
    self: state === null ? (before as Snapshot).self : readSelf(state[0]),
    ...(state === null ? {} : { coins: readCoins(state[1]), channels: readChannels(state[2]) }),
    ...(payments === null
      ? {}
      : {
          payments: readPayments(payments[0]),
          invoices: readInvoices(payments[1]),
          forwards: readForwards(payments[2]),
        }),
    ...(chain === null ? {} : { moves: readChainMoves(chain[0]), transactions: readTransactions(chain[1]) }),
    ...(room === null ? {} : { room: readRoom(room[0]), gossip: readGossip(room[1]) }),
  };
}
