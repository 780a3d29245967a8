/**
 * Links for other wallets, made from a card's link.
 *
 * Clams reads a node's address, key and way to it; the newer one as JSON in `/wallets/add`, the older one as a query of `/connect`
 * (clams-tech/Remote, src/lib/@types/wallets.ts and src/routes/auto-connect.ts). Its addresses are host and port without a
 * path, so a node behind a gateway is handed over as a proxy: it appends `/HOST:PORT` to the proxy's URL, which the `?` turns
 * into a query that the gateway does not read.
 */
import type { ConnectionString } from '../../lib/connection-string';

/** Where Clams' wallet for nodes is served. */
const REMOTE = 'https://remote.clams.tech';

/** Where its first wallet was. */
const APP = 'https://app.clams.tech';

function parts({ nodeId, url }: ConnectionString): {
  address: string;
  type: 'direct' | 'proxy';
  value: string;
} {
  const { protocol, hostname, host, port, pathname } = new URL(url);
  const address = `${nodeId}@${hostname}:${port === '' ? (protocol === 'wss:' ? '443' : '80') : port}`;
  if (pathname === '/' || pathname === '') return { address, type: 'direct', value: protocol };
  return { address, type: 'proxy', value: `${protocol}//${host}${pathname}?` };
}

/** A link that adds the node to Clams Remote. */
export function clamsLink(node: ConnectionString, label: string): string {
  const { address, type, value } = parts(node);
  const configuration = JSON.stringify({ address, token: node.rune, connection: { type, value } });
  const query = new URLSearchParams({ label, type: 'coreln', configuration });
  return `${REMOTE}/wallets/add?${query.toString()}`;
}

/** The same for the first Clams. */
export function olderClamsLink(node: ConnectionString): string {
  const { address, type, value } = parts(node);
  const query = new URLSearchParams({ address, type, value, rune: node.rune });
  return `${APP}/connect?${query.toString()}`;
}
