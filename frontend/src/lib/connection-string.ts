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

/** What a damaged link lacks, or has wrong. */
export type LinkFault = 'node' | 'place' | 'type' | 'scheme' | 'path' | 'rune';

/** A link that cannot be used. */
export class LinkFormatError extends Error {
  override name = 'LinkFormatError';
  constructor(
    readonly fault: LinkFault,
    /** The type of a link of another type, shortened; else empty. */
    readonly type = '',
  ) {
    super(`the link's ${fault} is wrong`);
  }
}

function bad(fault: LinkFault): LinkFormatError {
  return new LinkFormatError(fault);
}

/** Parses a connection string. Unknown parameters are ignored. */
export function parseConnectionString(link: string): ConnectionString {
  const at = link.indexOf('#');
  const fragment = new URLSearchParams(at < 0 ? '' : link.slice(at + 1));
  const get = (key: string) => fragment.get(key) ?? '';

  const [nodeId, place, ...more] = get('address').split('@');
  if (nodeId === undefined || !/^0[23][0-9a-f]{64}$/.test(nodeId)) throw bad('node');
  if (place === undefined || more.length > 0 || /[/?#\s]/.test(place)) throw bad('place');
  const type = get('type');
  if (type !== '' && type !== 'direct') throw new LinkFormatError('type', type.slice(0, 20));
  const scheme = get('value');
  if (scheme !== 'ws:' && scheme !== 'wss:') throw bad('scheme');
  const path = get('path');
  if (path !== '' && !path.startsWith('/')) throw bad('path');
  const rune = get('rune');
  if (!/^[A-Za-z0-9_=-]+$/.test(rune)) throw bad('rune');

  let url: URL;
  try {
    url = new URL(`${scheme}//${place}${path}`);
  } catch {
    throw bad('place');
  }
  if (url.username !== '' || url.search !== '' || url.hash !== '') throw bad('path');
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
