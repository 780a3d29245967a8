/** Errors of the shop, of its node and of the way to it, as sentences that people understand. */
import { ConfigError } from './config';
import { DESK_ERRORS, refusedSentence } from './desk-text';
import { LinkError, RpcError } from './node/node';
import { maybeText, maybeTime, numberOr, ShapeError, type Json } from './shape';
import { readAwaited, waiting } from './products';
import { TicketError } from './tickets';

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

/** "in 9 seconds", or an estimate where the shop does not say. */
function after(seconds: number): string {
  return `in ${seconds > 0 ? `${seconds} seconds` : 'a few minutes'}`;
}

/** Parameters by the names that the page has for them. */
const PARAMETERS: Readonly<Record<string, string>> = {
  node_count: 'number of nodes',
  hours: 'number of hours',
  sku: 'product',
  coin_distribution: 'distribution of coins',
  channel_setup: 'channel set-up',
  names: 'list of names',
  title: 'title',
};

/** What a parameter may be: a list, or a range. */
function allowed(value: unknown): string {
  if (Array.isArray(value)) return ` Choose one of ${value.map(String).join(', ')}.`;
  if (typeof value !== 'object' || value === null) return '';
  const { min, max } = value as Json;
  return typeof min === 'number' && typeof max === 'number' ? ` Choose ${min} to ${max}.` : '';
}

/** The sentence for an error of the shop; null for a kind that this page does not know. */
function ofShop(error: ShopError, message: string): string | null {
  switch (error.kind) {
    case 'no_such_order':
      return 'There is no such order. Check that the address is complete; orders that were never paid are forgotten after a while.';
    case 'no_remotes':
      return 'The shop has no servers at the moment, so nothing can be sold. Please come back later.';
    case 'busy':
      return `Many people are ordering right now. Please try again ${after(numberOr(error, 'retry_after_secs', 0))}.`;
    case 'ticket_required':
      return `Many people are ordering right now. Please load the page again, or try again ${after(numberOr(error, 'retry_after_secs', 0))}.`;
    case 'ticket_spent':
      return 'Your request came too late or twice. Please try again.';
    case 'unpaid_limit': {
      const wait = after(numberOr(error, 'retry_after_secs', 0));
      switch (maybeText(error, 'share')) {
        case 'client':
          return `You have unpaid orders that keep places free for you. Pay one of them, or try again ${wait}.`;
        case 'network':
          return `Others in your network have unpaid orders that keep places free for them. Please try again ${wait}.`;
        default:
          return `There are too many unpaid orders at the moment. Please try again ${wait}.`;
      }
    }
    case 'not_supported':
      return `This shop cannot do that yet: ${maybeText(error, 'feature') ?? 'what was asked for'}.`;
    case 'damaged_record':
      return 'The record of this order is damaged. The operator has been told; keep the address of this page.';
    case 'invalid_state':
      return `This cannot be done with an order that is ${maybeText(error, 'state') ?? 'in this state'}.`;
    case 'sold_out': {
      const at = maybeTime(error, 'next_available_at');
      const when = at === null ? '' : ` The next one frees up ${new Date(at).toLocaleString()}.`;
      return `This size is sold out right now.${when} A smaller one may be free.`;
    }
    case 'not_open_yet':
      return `The shop opens soon. ${waiting(readAwaited(error))}`;
    case 'too_large_to_receive': {
      const hours = numberOr(error, 'payable_hours', 0);
      const most =
        hours > 0
          ? `Up to ${hours} hours of this size are possible right now.`
          : 'Please choose a smaller size.';
      return `This is more than the shop’s Lightning node can receive in one payment. ${most}`;
    }
    case 'availability_unknown':
      return 'The shop’s servers do not answer at the moment, so nothing can be sold. Please try again later.';
    case 'invalid_params': {
      const parameter = PARAMETERS[maybeText(error, 'parameter') ?? ''];
      const choice = allowed(error['allowed']);
      // Where there is nothing to choose from, the shop's own sentence says what is wrong.
      if (parameter === undefined || choice === '') {
        return `The shop does not accept this: ${message.replace(/[.\s]+$/, '')}.`;
      }
      return `The shop does not accept this ${parameter}.${choice}`;
    }
    case 'desk_busy':
      return DESK_ERRORS.busy(after(numberOr(error, 'retry_after_secs', 0)));
    case 'desk_too_old':
      return DESK_ERRORS.tooOld;
    case 'desk_no_answer':
      return DESK_ERRORS.noAnswer;
    case 'desk_refused':
      return refusedSentence(maybeText(error, 'reason'));
    case 'starting':
      return 'The shop is starting. Please try again in a moment.';
    case 'node_unavailable':
    case 'remote_failed':
    case 'internal':
      return 'The shop cannot do this right now. Please try again in a moment.';
    default:
      return null;
  }
}

/** The sentence for an error that is not the shop's own. */
function ofNode({ code, message }: RpcError): string {
  if (code === -32601) {
    return 'The shop’s node does not know this request. The shop may be restarting; try again in a moment.';
  }
  if (COMMANDO.includes(code)) {
    return /too soon/i.test(message)
      ? 'Busy: somebody else is asking this very second. Please try again.'
      : 'The node does not accept this key. It may have been replaced; load the page again.';
  }
  return `The node answered with an error that this page does not know (${code}).`;
}

/** What to tell the person in front of the page. */
export function sentence(error: unknown): string {
  if (error instanceof RpcError) {
    const known = shopError(error);
    return (known === null ? null : ofShop(known, error.message)) ?? ofNode(error);
  }
  if (error instanceof ConfigError) return error.message;
  if (error instanceof TicketError)
    return `There were many orders from your network in the last minute. Please try again ${after(error.seconds)}.`;
  if (error instanceof ShapeError)
    return 'The shop’s answer could not be understood. Load the page again; if that does not help, tell the operator.';
  if (error instanceof LinkError) {
    switch (error.fault) {
      case 'stranger':
        return 'Somebody answered, but not as the node we know. For your safety nothing is sent. The shop may be restarting; if this stays, tell its operator.';
      case 'timeout':
        return 'The node took too long to answer. Please try again.';
      default:
        return 'The connection to the node is down. This page keeps trying.';
    }
  }
  return 'Something went wrong in this page. Load it again; your order is kept.';
}
