/** Tickets from the shop's server. Each is good for one order; the server gives every visitor a few. */
import { maybeText, object } from './shape';

/** The server gives this visitor no ticket now. */
export class TicketError extends Error {
  override name = 'TicketError';
  /** `seconds` after which it may; 0 if it does not say. */
  constructor(readonly seconds: number) {
    super(`no ticket for ${seconds} s`);
  }
}

/** Time-out for a ticket, in milliseconds. */
const PATIENCE = 10_000;

/**
 * Gets a ticket; null where there is none to be had, as in a shop without tickets. The node then takes the order while
 * there are few others.
 */
export async function fetchTicket(): Promise<string | null> {
  let response: Response;
  try {
    response = await fetch('/tickets', { method: 'POST', signal: AbortSignal.timeout(PATIENCE) });
  } catch {
    return null;
  }
  if (response.status === 429) throw new TicketError(Number(response.headers.get('retry-after')) || 0);
  if (!response.ok) return null;
  try {
    return maybeText(object(await response.json(), 'the ticket'), 'ticket');
  } catch {
    return null;
  }
}
