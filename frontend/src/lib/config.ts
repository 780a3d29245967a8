/** The configuration from the shop's server: the node, and how to reach it. */
import { maybeText, object, ShapeError, text } from './shape';

/** The shop's node and the rune for it. */
export interface ShopConfig {
  /** 66 hex digits. */
  readonly nodeId: string;
  /** `ws:` or `wss:`. */
  readonly websocketUrl: string;
  /** The public rune, which is not a secret. */
  readonly rune: string;
  /** Contact for help, if the shop has one. */
  readonly contact: string | null;
  /** Path at which the demo's customer pays invoices; null in a real shop. */
  readonly demoWallet: string | null;
}

/**
 * Why there is no configuration: it is wrong; the server cannot be reached; or the shop's node has not started since its server
 * was set up.
 */
export type ConfigFault = 'wrong' | 'unreachable' | 'starting';

/** The configuration could not be loaded. */
export class ConfigError extends Error {
  override name = 'ConfigError';
  constructor(
    readonly fault: ConfigFault,
    /** What is wrong with it, for the operator. */
    readonly detail = '',
  ) {
    super(`the configuration is ${fault}: ${detail}`);
  }
}

const NODE_ID = /^0[23][0-9a-f]{64}$/;

/** Time-out for `/config.json`, in milliseconds. */
const PATIENCE = 10_000;

/** Parses the configuration. `here` is the page's URL, which supplies missing parts. */
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
      contact: maybeText(from, 'contact'),
      // Only on this site.
      demoWallet: demoWallet !== null && /^\/(?!\/)/.test(demoWallet) ? demoWallet : null,
    };
  } catch (error) {
    if (!(error instanceof ShapeError)) throw error;
    throw new ConfigError('wrong', error.message);
  }
}

/** The built-in configuration, if there is one. */
export function builtIn(env: Record<string, unknown>): Record<string, unknown> | null {
  const nodeId = env['VITE_LNPLAYLIVE_NODE_ID'];
  const rune = env['VITE_LNPLAYLIVE_RUNE'];
  if (typeof nodeId !== 'string' || typeof rune !== 'string') return null;
  return {
    node_id: nodeId,
    rune,
    websocket_url: env['VITE_LNPLAYLIVE_WEBSOCKET_URL'],
    contact: env['VITE_LNPLAYLIVE_CONTACT'],
  };
}

/** Whether the server says that it waits for the node. A proxy's 503 says nothing of the kind. */
async function isStarting(response: Response): Promise<boolean> {
  try {
    return maybeText(object(await response.json(), 'the answer'), 'kind') === 'starting';
  } catch {
    return false;
  }
}

/** Fetches the configuration, never from a cache: an outdated node id would look like an attack. */
export async function loadConfig(here: URL): Promise<ShopConfig> {
  const fixed = builtIn(import.meta.env);
  if (fixed !== null) return readConfig(fixed, here);
  let value: unknown;
  try {
    const response = await fetch('/config.json', {
      cache: 'no-store',
      signal: AbortSignal.timeout(PATIENCE),
    });
    if (response.status === 503 && (await isStarting(response))) throw new ConfigError('starting');
    if (!response.ok) throw new Error(`status ${response.status}`);
    value = await response.json();
  } catch (error) {
    throw error instanceof ConfigError ? error : new ConfigError('unreachable');
  }
  return readConfig(value, here);
}
