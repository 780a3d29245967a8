/** The pages of the app and their paths. */

/** The lesson plans, by their names in URLs. */
export const PLAN_IDS = ['meetup', 'class', 'game'] as const;

/** A lesson plan. */
export type PlanId = (typeof PLAN_IDS)[number];

/** A page of the app. */
export type Route =
  | { readonly page: 'landing' }
  | { readonly page: 'order' }
  | { readonly page: 'find' }
  | { readonly page: 'status'; readonly invoiceId: string }
  | { readonly page: 'wall'; readonly invoiceId: string }
  | { readonly page: 'guide'; readonly plan: PlanId | null }
  | { readonly page: 'connect' }
  | { readonly page: 'nowhere' };

/** The format of order ids. Anything else is not worth a request to the node. */
const INVOICE_ID = /^lnplaylive-[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

/** Returns whether this can be an order's id. */
export function isInvoiceId(value: string): boolean {
  return INVOICE_ID.test(value);
}

/** The page for a path. */
export function routeOf(path: string): Route {
  const parts = path.split('/').filter((part) => part !== '');
  const [first, second, third] = parts;
  if (parts.length === 0) return { page: 'landing' };
  if (parts.length === 1 && first === 'order') return { page: 'order' };
  if (parts.length === 1 && first === 'orders') return { page: 'find' };
  if (parts.length === 1 && first === 'connect') return { page: 'connect' };
  if (parts.length === 1 && first === 'guide') return { page: 'guide', plan: null };
  const plan = PLAN_IDS.find((id) => id === second);
  if (parts.length === 2 && first === 'guide' && plan !== undefined) return { page: 'guide', plan };
  if (parts.length === 3 && first === 'orders' && third === 'wall')
    return { page: 'wall', invoiceId: second ?? '' };
  // For an invalid id the page says that there is no such order.
  if (first === 'orders') return { page: 'status', invoiceId: parts.length === 2 ? (second ?? '') : '' };
  return { page: 'nowhere' };
}

/** Extracts the order's id from pasted text: the page's URL or the id; null if there is none. */
export function findInvoiceId(pasted: string): string | null {
  const found = /lnplaylive-[0-9a-f-]{36}/.exec(pasted.trim().toLowerCase())?.[0];
  return found !== undefined && isInvoiceId(found) ? found : null;
}
