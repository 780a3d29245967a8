/** Who asks for what: the invoices and offers that nodes show to the room (crates/lnplay-agent/src/requests.rs). */
import { list, object, text } from '../../lib/shape';
import type { Payable } from './payable';

const VERSION = 1;

/** Something that a node shows to the room. */
export interface SharedText {
  readonly nodeId: string;
  readonly text: string;
}

/** The same, decoded. */
export interface Ask {
  readonly nodeId: string;
  readonly what: Payable;
}

/** Reads the answer of `listsharedinvoices`: empty where it is of a later version. */
export function readShared(answer: unknown): SharedText[] {
  const from = object(answer, 'listsharedinvoices');
  if (from['version'] !== VERSION) return [];
  return list(from, 'requests').map((item) => {
    const request = object(item, 'request');
    return { nodeId: text(request, 'node'), text: text(request, 'request') };
  });
}

/** Whether a request is the node's own and can still be paid; `now` in milliseconds since 1970. Nobody asks in another's name. */
export function isPayableAsk({ nodeId, what }: Ask, now: number): boolean {
  if (what.payee !== null && what.payee !== nodeId) return false;
  return !('expiresAt' in what) || what.expiresAt * 1000 > now;
}
