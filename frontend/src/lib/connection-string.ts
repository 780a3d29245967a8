/**
 * Connection strings: links whose fragment contains everything needed to control a node.
 *
 * The format is defined in `crates/lnplaylive-core/src/connection.rs`. Browsers do not send fragments to servers.
 */

/** The contents of a connection string. */
export interface ConnectionString {
  /** The whole link, which gives control of the node. */
  readonly link: string;
  /** 66 hex digits. */
  readonly nodeId: string;
  /** URL of its WebSocket. */
  readonly url: string;
  readonly rune: string;
  readonly name: string | null;
  /** In CSS notation, `#rrggbb`. */
  readonly color: string | null;
}

/** A link that cannot be used. The message is for users. */
export class LinkFormatError extends Error {
  override name = 'LinkFormatError';
}

function bad(what: string): LinkFormatError {
  return new LinkFormatError(
    `This link is incomplete or damaged: ${what}. Scan the card again, or copy the whole link.`,
  );
}

/** Parses a connection string. Unknown parameters are ignored. */
export function parseConnectionString(link: string): ConnectionString {
  const at = link.indexOf('#');
  const fragment = new URLSearchParams(at < 0 ? '' : link.slice(at + 1));
  const get = (key: string) => fragment.get(key) ?? '';

  const [nodeId, place, ...more] = get('address').split('@');
  if (nodeId === undefined || !/^0[23][0-9a-f]{64}$/.test(nodeId)) throw bad('it does not name a node');
  if (place === undefined || more.length > 0 || /[/?#\s]/.test(place))
    throw bad('it does not say where the node is');
  const type = get('type');
  if (type !== '' && type !== 'direct') throw bad(`its type is “${type.slice(0, 20)}”`);
  const scheme = get('value');
  if (scheme !== 'ws:' && scheme !== 'wss:') throw bad('it does not say how the node is reached');
  const path = get('path');
  if (path !== '' && !path.startsWith('/')) throw bad('its path is invalid');
  const rune = get('rune');
  if (!/^[A-Za-z0-9_=-]+$/.test(rune)) throw bad('the key is missing');

  let url: URL;
  try {
    url = new URL(`${scheme}//${place}${path}`);
  } catch {
    throw bad('it does not say where the node is');
  }
  if (url.username !== '' || url.search !== '' || url.hash !== '') throw bad('its path is invalid');
  const color = get('color');
  return {
    link,
    nodeId,
    url: url.href,
    rune,
    name: fragment.get('name'),
    color: /^[0-9a-fA-F]{6}$/.test(color) ? `#${color.toLowerCase()}` : null,
  };
}

/** Returns whether a page at `here` may open the node's WebSocket: browsers refuse `ws:` to pages loaded over https. */
export function isBlockedAsMixed(url: string, here: URL): boolean {
  if (here.protocol !== 'https:' || !url.startsWith('ws:')) return false;
  const host = new URL(url).hostname;
  return host !== 'localhost' && host !== '[::1]' && !host.startsWith('127.');
}
