/** What the shop's server says about itself: its node, and how to reach it. */
import { maybeText, object, ShapeError, text } from './shape';

/** Where the shop's node is, and what may be asked of it. */
export interface ShopConfig {
  /** 66 hex digits. */
  readonly nodeId: string;
  /** `ws:` or `wss:`. */
  readonly websocketUrl: string;
  /** The public rune: anybody may know it. */
  readonly rune: string;
  /** The one for orders, which lets so many through in a minute; null where `rune` is for orders too. */
  readonly orderRune: string | null;
  /** Whom to ask for help, if the shop says. */
  readonly contact: string | null;
  /** Where the demo's customer takes invoices to pay; null in a real shop. */
  readonly demoWallet: string | null;
}

/** The configuration could not be had; the message is for people. */
export class ConfigError extends Error {
  override name = 'ConfigError';
}

const NODE_ID = /^0[23][0-9a-f]{64}$/;

/** Time for `/config.json` to arrive, in milliseconds. */
const PATIENCE = 10_000;

/** Reads the configuration; `here` is the page's address, for the parts that are left out. */
export function readConfig(value: unknown, here: URL): ShopConfig {
  try {
    const from = object(value, 'config.json');
    const nodeId = text(from, 'node_id');
    if (!NODE_ID.test(nodeId)) throw new ShapeError('node_id is not a node’s id');
    const given = maybeText(from, 'websocket_url');
    const websocketUrl = given ?? `${here.protocol === 'https:' ? 'wss:' : 'ws:'}//${here.host}/ws`;
    if (!/^wss?:\/\//.test(websocketUrl)) throw new ShapeError('websocket_url is not a ws: or wss: address');
    const demoWallet = maybeText(from, 'demo_wallet');
    return {
      nodeId,
      websocketUrl,
      rune: text(from, 'rune'),
      orderRune: maybeText(from, 'order_rune'),
      contact: maybeText(from, 'contact'),
      // On this site and nowhere else.
      demoWallet: demoWallet !== null && /^\/(?!\/)/.test(demoWallet) ? demoWallet : null,
    };
  } catch (error) {
    if (!(error instanceof ShapeError)) throw error;
    throw new ConfigError(`The shop is set up wrongly: ${error.message}. Its operator has to correct that.`);
  }
}

/** The configuration that was built in, if one was. */
export function builtIn(env: Record<string, unknown>): Record<string, unknown> | null {
  const nodeId = env['VITE_LNPLAYLIVE_NODE_ID'];
  const rune = env['VITE_LNPLAYLIVE_RUNE'];
  if (typeof nodeId !== 'string' || typeof rune !== 'string') return null;
  return {
    node_id: nodeId,
    rune,
    order_rune: env['VITE_LNPLAYLIVE_ORDER_RUNE'],
    websocket_url: env['VITE_LNPLAYLIVE_WEBSOCKET_URL'],
    contact: env['VITE_LNPLAYLIVE_CONTACT'],
  };
}

/** Fetches the configuration. It is never taken from a cache: an old node id would look like an attack. */
export async function loadConfig(here: URL): Promise<ShopConfig> {
  const fixed = builtIn(import.meta.env);
  if (fixed !== null) return readConfig(fixed, here);
  let value: unknown;
  try {
    const response = await fetch('/config.json', {
      cache: 'no-store',
      signal: AbortSignal.timeout(PATIENCE),
    });
    if (!response.ok) throw new Error(`status ${response.status}`);
    value = await response.json();
  } catch {
    throw new ConfigError(
      'The shop’s server cannot be reached right now. Nothing is lost; try again in a moment.',
    );
  }
  return readConfig(value, here);
}
