/** Errors of the node and of the way to it, as sentences that people understand. */
import { ConfigError } from './config';
import { LinkError, RpcError } from './node/node';
import { ShapeError } from './shape';

/** Commando: the rune does not allow the call, or not so soon. */
const COMMANDO = [0x4c50, 0x4c51, 0x4c4f];

/** Whether the node would have done it a moment later. */
export function isTooSoon(error: unknown): boolean {
  return error instanceof RpcError && COMMANDO.includes(error.code) && /too soon/i.test(error.message);
}

/** Whether the node does not let the holder of this rune do that. */
export function isRefusedKey(error: unknown): boolean {
  return error instanceof RpcError && error.code === 0x4c51 && !isTooSoon(error);
}

/** Whether the shop says that it has no such order. */
export function isNoSuchOrder(error: unknown): boolean {
  return error instanceof RpcError && error.code === 7000;
}

function capital(sentence: string): string {
  const plain = sentence.trim().replace(/[.\s]+$/, '');
  return `${plain.charAt(0).toUpperCase()}${plain.slice(1)}.`;
}

function ofRpc({ code, message }: RpcError): string {
  switch (code) {
    case 7000:
      return 'There is no such order. Check that the address is complete; orders that were never paid are forgotten after a while.';
    case 7001:
      return 'The shop has no servers at the moment, so nothing can be sold. Please come back later.';
    case 7002: {
      const seconds = /(\d+) seconds/.exec(message)?.[1];
      return `Many people are ordering right now. Please try again in ${seconds === undefined ? 'a few minutes' : `${seconds} seconds`}.`;
    }
    case 7003:
      return `This shop cannot do that yet: ${message.replace(/ is not supported yet$/, '')}.`;
    case 7004:
      return 'The record of this order is damaged. The operator has been told; keep the address of this page.';
    case 7005:
      return capital(message);
    case 7006: {
      const at = /\d{4}-\d\d-\d\dT[\d:.]+Z/.exec(message)?.[0];
      const when = at === undefined ? '' : ` The next one frees up ${new Date(at).toLocaleString()}.`;
      return `This size is sold out right now.${when} A smaller one may be free.`;
    }
    case -32602:
      return `The shop does not accept this: ${message.replace(/[.\s]+$/, '')}.`;
    case -32603:
      return 'The shop cannot do this right now. Please try again in a moment.';
    case -32601:
      return 'The shop’s node does not know this request. The shop may be restarting; try again in a moment.';
  }
  if (COMMANDO.includes(code)) {
    return /too soon/i.test(message)
      ? 'Busy: somebody else is ordering this very second. Please try again.'
      : 'The node does not accept this key. It may have been replaced; load the page again.';
  }
  return `The node answered with an error that this page does not know (${code}).`;
}

/** What to tell the person in front of the page. */
export function sentence(error: unknown): string {
  if (error instanceof RpcError) return ofRpc(error);
  if (error instanceof ConfigError) return error.message;
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
