/** Orders that this browser made or looked at, so that they can be shown again without a network. */
import type { Invoice, Status } from './order';

/** What is kept of an order. */
export interface SavedOrder {
  readonly invoiceId: string;
  /** There if the order was made in this browser. */
  readonly invoice?: Invoice;
  /** The last status that was seen. */
  readonly status?: Status;
  /** Whether its address was put into a password manager. */
  readonly kept?: boolean;
  /** When it was last seen, in milliseconds since 1970. */
  readonly seenAt: number;
}

const KEY = 'lnplaylive.orders';

/** More than anybody has open at a time. */
const MOST = 8;

/** The part of `Storage` that is needed. */
export type Shelf = Pick<Storage, 'getItem' | 'setItem' | 'removeItem'>;

function isSaved(value: unknown): value is SavedOrder {
  return typeof value === 'object' && value !== null && 'invoiceId' in value && 'seenAt' in value;
}

/** All that is kept, the last one seen first. Whatever is unreadable is as good as not there. */
export function savedOrders(shelf: Shelf): readonly SavedOrder[] {
  try {
    const kept: unknown = JSON.parse(shelf.getItem(KEY) ?? '[]');
    return Array.isArray(kept) ? kept.filter(isSaved) : [];
  } catch {
    return [];
  }
}

function write(shelf: Shelf, orders: readonly SavedOrder[]): void {
  try {
    if (orders.length === 0) shelf.removeItem(KEY);
    else shelf.setItem(KEY, JSON.stringify(orders.slice(0, MOST)));
  } catch {
    // A full or forbidden store: the page works without.
  }
}

/** What is kept of one order. */
export function savedOrder(shelf: Shelf, invoiceId: string): SavedOrder | null {
  return savedOrders(shelf).find((order) => order.invoiceId === invoiceId) ?? null;
}

/** Keeps what is new of an order beside what was known of it. */
export function keep(shelf: Shelf, order: SavedOrder): void {
  const others = savedOrders(shelf).filter(({ invoiceId }) => invoiceId !== order.invoiceId);
  write(shelf, [{ ...savedOrder(shelf, order.invoiceId), ...order }, ...others]);
}

/** Forgets an order. */
export function forget(shelf: Shelf, invoiceId: string): void {
  write(
    shelf,
    savedOrders(shelf).filter((order) => order.invoiceId !== invoiceId),
  );
}

/** The invoice that somebody was about to pay in this browser, if there is still time to. */
export function openInvoice(shelf: Shelf, now: number): Invoice | null {
  const open = savedOrders(shelf).find(
    ({ invoice, status }) =>
      invoice !== undefined &&
      invoice.expiresAt > now &&
      (status === undefined || status.stage.kind === 'unpaid'),
  );
  return open?.invoice ?? null;
}

/** The order to offer on the first page: the last one that still is, or may become, a network. */
export function currentOrder(shelf: Shelf, now: number): SavedOrder | null {
  const isCurrent = ({ invoice, status }: SavedOrder) => {
    switch (status?.stage.kind) {
      case undefined:
      case 'unpaid':
        return invoice !== undefined && invoice.expiresAt > now;
      case 'ready':
        return status.stage.endsAt === null || status.stage.endsAt > now;
      case 'working':
      case 'failed':
        return true;
      default:
        return false;
    }
  };
  return savedOrders(shelf).find(isCurrent) ?? null;
}
