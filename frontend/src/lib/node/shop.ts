/** The shop's methods, typed. */
import { deskParams, limitOf, readDesk, type DeskAction, type DeskAnswer } from '../desk';
import { isNoSuchOrder, wantsTicket } from '../errors';
import { fetchTicket } from '../tickets';
import {
  orderParams,
  readInvoice,
  readStatus,
  isFinal,
  type Invoice,
  type Status,
  type OrderRequest,
} from '../order';
import { readCatalogue, type Catalogue } from '../products';
import type { Link } from './link';

/** Seconds that the node may wait for a change; the maximum is 60. */
const LONG_POLL = 50;

/** Waits, or returns early when aborted. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      // A signal may outlive thousands of these.
      signal?.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal?.addEventListener('abort', done);
    if (signal?.aborted === true) done();
  });
}

/** Requests the catalogue. */
export async function products(link: Link): Promise<Catalogue> {
  return readCatalogue(await link.call('lnplaylive-products', {}));
}

/** Creates an order, with a ticket where the shop has any. If the node wants another ticket, it gets one, once. */
export async function createOrder(link: Link, request: OrderRequest): Promise<Invoice> {
  const attempt = async () => {
    const ticket = await fetchTicket();
    const params = { ...orderParams(request), ...(ticket === null ? {} : { ticket }) };
    return readInvoice(await link.call('lnplaylive-createorder', params));
  };
  try {
    return await attempt();
  } catch (error) {
    // Nothing was ordered.
    if (wantsTicket(error)) return attempt();
    throw error;
  }
}

/**
 * Acts on the network of an order, over a connection of its own: an action may take a minute. With the same `request`, one
 * that was carried out is not carried out again.
 */
export async function act(
  link: Link,
  invoiceId: string,
  action: DeskAction,
  request: string,
): Promise<DeskAnswer> {
  const own = link.fork();
  try {
    const params = deskParams(invoiceId, action, request);
    return readDesk(await own.call('lnplaylive-desk', params, { limit: limitOf(action) }));
  } finally {
    own.close();
  }
}

/** Events of a watched order. */
export interface Watcher {
  readonly onStatus: (status: Status) => void;
  /** A temporary problem; null when it is over. */
  readonly onTrouble: (error: unknown) => void;
  /** There is no such order; watching ends. */
  readonly onMissing: () => void;
}

/**
 * Watches an order until it cannot change any more. Asks at once, and then waits for changes, over a connection of its
 * own: other calls do not wait with it.
 */
export async function watchOrder(
  link: Link,
  invoiceId: string,
  watcher: Watcher,
  signal: AbortSignal,
): Promise<void> {
  let waits: Link | null = null;
  let revision = -1;
  try {
    while (!signal.aborted) {
      try {
        const value =
          revision < 0
            ? await link.call(
                'lnplaylive-invoicestatus',
                { payment_type: 'bolt11', invoice_id: invoiceId },
                { signal },
              )
            : await (waits ??= link.fork()).call(
                'lnplaylive-waitstatus',
                { invoice_id: invoiceId, revision, timeout: LONG_POLL },
                { signal, limit: (LONG_POLL + 10) * 1000 },
              );
        const status = readStatus(value);
        // The node answers at once if too many calls are waiting.
        const early = status.revision === revision;
        revision = status.revision;
        watcher.onStatus(status);
        if (isFinal(status.stage)) return;
        if (early) await sleep(2000, signal);
      } catch (error) {
        if (signal.aborted) return;
        if (isNoSuchOrder(error)) {
          watcher.onMissing();
          return;
        }
        watcher.onTrouble(error);
        await sleep(2000, signal);
      }
    }
  } finally {
    waits?.close();
  }
}
