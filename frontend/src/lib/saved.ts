/** Orders that were created or viewed in this browser, so that they can be shown without a network. */
import type { Invoice, Status } from './order';

/** A saved order. */
export interface SavedOrder {
  readonly invoiceId: string;
  /** Set if the order was created in this browser. */
  readonly invoice?: Invoice;
  /** The last known status. */
  readonly status?: Status;
  /** True if its URL was saved in a password manager. */
  readonly kept?: boolean;
  /** Time of the last view, in milliseconds since 1970. */
  readonly seenAt: number;
}

const KEY = 'lnplaylive.orders';

/** More than anybody has open at the same time. */
const MAX_ORDERS = 8;

/** The used part of `Storage`. */
export type OrderStorage = Pick<Storage, 'getItem' | 'setItem' | 'removeItem'>;

function isSaved(value: unknown): value is SavedOrder {
  return typeof value === 'object' && value !== null && 'invoiceId' in value && 'seenAt' in value;
}

/** All saved orders, most recently viewed first. Unreadable data counts as missing. */
export function savedOrders(storage: OrderStorage): readonly SavedOrder[] {
  try {
    const stored: unknown = JSON.parse(storage.getItem(KEY) ?? '[]');
    return Array.isArray(stored) ? stored.filter(isSaved) : [];
  } catch {
    return [];
  }
}

function write(storage: OrderStorage, orders: readonly SavedOrder[]): void {
  try {
    if (orders.length === 0) storage.removeItem(KEY);
    else storage.setItem(KEY, JSON.stringify(orders.slice(0, MAX_ORDERS)));
  } catch {
    // The storage is full or forbidden; the page works without it.
  }
}

/** The saved data of an order. */
export function savedOrder(storage: OrderStorage, invoiceId: string): SavedOrder | null {
  return savedOrders(storage).find((order) => order.invoiceId === invoiceId) ?? null;
}

/** Updates the saved data of an order. */
export function keep(storage: OrderStorage, order: SavedOrder): void {
  const others = savedOrders(storage).filter(({ invoiceId }) => invoiceId !== order.invoiceId);
  write(storage, [{ ...savedOrder(storage, order.invoiceId), ...order }, ...others]);
}

/** Removes an order. */
export function forget(storage: OrderStorage, invoiceId: string): void {
  write(
    storage,
    savedOrders(storage).filter((order) => order.invoiceId !== invoiceId),
  );
}

/** The invoice that was to be paid in this browser, if it has not expired. */
export function openInvoice(storage: OrderStorage, now: number): Invoice | null {
  const open = savedOrders(storage).find(
    ({ invoice, status }) =>
      invoice !== undefined &&
      invoice.expiresAt > now &&
      (status === undefined || status.stage.kind === 'unpaid'),
  );
  return open?.invoice ?? null;
}

/** The order to offer on the first page: the last one that is, or may become, a network. */
export function currentOrder(storage: OrderStorage, now: number): SavedOrder | null {
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
  return savedOrders(storage).find(isCurrent) ?? null;
}
