/** The shop's methods, typed. */
import { isNoSuchOrder, isTooSoon } from '../errors';
import {
  orderParams,
  readInvoice,
  readStatus,
  isFinal,
  type Invoice,
  type Status,
  type Wish,
} from '../order';
import { readCatalogue, type Catalogue } from '../products';
import type { Link } from './link';

/** What the node may take at most to say that nothing has changed, in seconds; it allows 60. */
const LONG_POLL = 50;

/** The method that makes orders: it has a rune of its own. */
export const CREATE_ORDER = 'lnplaylive-createorder';

/** Attempts at an order, a good second apart: as many seconds as somebody might wait for a button. */
const ORDER_ATTEMPTS = 12;

/** Waits, or ends early when the signal says so. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener('abort', () => {
      clearTimeout(timer);
      resolve();
    });
  });
}

/** Reads the offer. */
export async function products(link: Link): Promise<Catalogue> {
  return readCatalogue(await link.call('lnplaylive-products', {}));
}

/**
 * Makes an order. The whole world may make one a second, so "too soon" is nobody's fault: it is tried again, and
 * `onBusy` is told, to say so.
 */
export async function createOrder(link: Link, wish: Wish, onBusy: () => void): Promise<Invoice> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return readInvoice(await link.call(CREATE_ORDER, orderParams(wish)));
    } catch (error) {
      if (!isTooSoon(error) || attempt >= ORDER_ATTEMPTS) throw error;
      onBusy();
      await sleep(1000 + 500 * Math.random());
    }
  }
}

/** What is heard of an order that is watched. */
export interface Watcher {
  readonly onStatus: (status: Status) => void;
  /** It goes on by itself; null when it is fine again. */
  readonly onTrouble: (error: unknown) => void;
  /** There is no such order: the end of it. */
  readonly onMissing: () => void;
}

/** Follows an order until it cannot change any more. Asks at once, then only when something has changed. */
export async function watchOrder(
  link: Link,
  invoiceId: string,
  watcher: Watcher,
  signal: AbortSignal,
): Promise<void> {
  let revision = -1;
  while (!signal.aborted) {
    try {
      const first = revision < 0;
      const value = first
        ? await link.call(
            'lnplaylive-invoicestatus',
            { payment_type: 'bolt11', invoice_id: invoiceId },
            { signal },
          )
        : await link.call(
            'lnplaylive-waitstatus',
            { invoice_id: invoiceId, revision, timeout: LONG_POLL },
            { signal, limit: (LONG_POLL + 10) * 1000 },
          );
      const status = readStatus(value);
      // The node answers at once when it has too many of us waiting.
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
}
