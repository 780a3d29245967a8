/** Errors of the shop, of its node and of the way to it, as sentences that people understand. */
import { textsOf } from '../text/index.svelte';
import { CardsError } from './cards';
import { ConfigError } from './config';
import { LinkError, RpcError } from './node/node';
import { PayError } from './pay';
import { readAwaited } from './products';
import { maybeText, maybeTime, numberOr, ShapeError, type Json } from './shape';
import { TicketError } from './tickets';

const shop = textsOf('shop');
const status = textsOf('status');

/** Commando: the rune does not allow the call, or not so soon. */
const COMMANDO = [0x4c50, 0x4c51, 0x4c4f];

/** Whether the rune's rate was exceeded. */
function isTooSoon(error: unknown): boolean {
  return error instanceof RpcError && COMMANDO.includes(error.code) && /too soon/i.test(error.message);
}

/** Whether the node does not let the holder of this rune do that. */
export function isRefusedKey(error: unknown): boolean {
  return error instanceof RpcError && error.code === 0x4c51 && !isTooSoon(error);
}

/** An error of the shop: `data` of its answer, which has a `kind` and whatever belongs to it. */
type ShopError = Json & { readonly kind: string };

function shopError(error: unknown): ShopError | null {
  if (!(error instanceof RpcError) || typeof error.data !== 'object' || error.data === null) return null;
  const data = error.data as Json;
  return typeof data['kind'] === 'string' ? { ...data, kind: data['kind'] } : null;
}

/** Whether the shop says that it has no such order. */
export function isNoSuchOrder(error: unknown): boolean {
  return shopError(error)?.kind === 'no_such_order';
}

/** Whether the desk of an order answers that it may or may not have carried out what was asked for. */
export function isUnknownOutcome(error: unknown): boolean {
  return error instanceof LinkError || shopError(error)?.kind === 'desk_no_answer';
}

/** Whether the shop says that the network has no desk. */
export function hasNoDesk(error: unknown): boolean {
  return shopError(error)?.kind === 'desk_too_old';
}

/** Whether the shop says that it cannot be paid, or not as much. What it offers has changed then. */
export function isNotPayable(error: unknown): boolean {
  const kind = shopError(error)?.kind;
  return kind === 'not_open_yet' || kind === 'too_large_to_receive';
}

/** Whether the shop would take the order with another ticket. */
export function wantsTicket(error: unknown): boolean {
  const kind = shopError(error)?.kind;
  return kind === 'ticket_required' || kind === 'ticket_spent';
}

/** What a parameter may be: a list, a range, or a rule of its own. */
function choice(parameter: string, allowed: unknown): string {
  const t = shop.errors;
  if (Array.isArray(allowed)) return t.oneOf(allowed.map(String));
  if (typeof allowed === 'object' && allowed !== null) {
    const { min, max } = allowed as Json;
    if (typeof min === 'number' && typeof max === 'number') return t.between(min, max);
  }
  return lookUp(t.rules, parameter) ?? '';
}

/** The text of that name, if there is one. */
function lookUp(texts: Readonly<Record<string, string>>, name: string): string | null {
  return Object.hasOwn(texts, name) ? (texts[name] ?? null) : null;
}

/** The sentence for an error of the shop; null for a kind that this page does not know. */
function ofShop(error: ShopError, message: string): string | null {
  const t = shop.errors;
  const seconds = numberOr(error, 'retry_after_secs', 0);
  switch (error.kind) {
    case 'no_such_order':
      return t.noSuchOrder;
    case 'no_remotes':
      return t.noRemotes;
    case 'busy':
      return t.busy(seconds);
    case 'ticket_required':
      return t.ticketRequired(seconds);
    case 'ticket_spent':
      return t.ticketSpent;
    case 'unpaid_limit': {
      const share = maybeText(error, 'share');
      return t.unpaid[share === 'client' || share === 'network' ? share : 'other'](seconds);
    }
    case 'not_supported':
      return t.notSupported(maybeText(error, 'feature'));
    case 'damaged_record':
      return t.damagedRecord;
    case 'invalid_state':
      return t.invalidState;
    case 'sold_out':
      return t.soldOut(maybeTime(error, 'next_available_at'));
    case 'not_open_yet':
      return t.notOpenYet(readAwaited(error));
    case 'too_large_to_receive':
      return t.tooLarge(numberOr(error, 'payable_hours', 0));
    case 'availability_unknown':
      return t.availabilityUnknown;
    case 'invalid_params': {
      const parameter = maybeText(error, 'parameter') ?? '';
      const name = lookUp(t.parameters, parameter);
      return name === null
        ? t.invalid(message.replace(/[.\s]+$/, ''))
        : t.invalidParameter(name, choice(parameter, error['allowed']));
    }
    case 'desk_busy':
      return t.desk.busy(seconds);
    case 'desk_too_old':
      return t.desk.tooOld;
    case 'desk_no_answer':
      return t.desk.noAnswer;
    case 'desk_refused':
      return lookUp(t.desk.refused, maybeText(error, 'reason') ?? '') ?? t.desk.refused.failed;
    case 'starting':
      return t.starting;
    case 'node_unavailable':
    case 'remote_failed':
    case 'internal':
      return t.internal;
    default:
      return null;
  }
}

/** The sentence for an error that is not the shop's own. */
function ofNode({ code, message }: RpcError): string {
  const t = shop.errors;
  if (code === -32601) return t.noSuchMethod;
  if (COMMANDO.includes(code)) return /too soon/i.test(message) ? t.tooSoon : t.refusedKey;
  return t.unknown(code);
}

/** What to tell the person in front of the page. Of a page that has the texts of the shop; for cards, also those of an order. */
export function sentence(error: unknown): string {
  const t = shop.errors;
  if (error instanceof RpcError) {
    const known = shopError(error);
    return (known === null ? null : ofShop(known, error.message)) ?? ofNode(error);
  }
  if (error instanceof ConfigError)
    return error.fault === 'wrong' ? t.config.wrong(error.detail) : t.config[error.fault];
  if (error instanceof TicketError) return t.manyOrders(error.seconds);
  if (error instanceof ShapeError) return t.odd;
  if (error instanceof LinkError) return t.link[error.fault];
  if (error instanceof CardsError) return status.cards.faults[error.fault];
  if (error instanceof PayError) return error.detail ?? shop.invoice.faults[error.fault];
  return t.page;
}
