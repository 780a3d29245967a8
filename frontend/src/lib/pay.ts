/** Wallets that a page can use to pay. */

/** Which wallet did not pay, or did not answer. */
export type PayFault = 'webln' | 'demoAway' | 'demoFailed';

/** An invoice was not paid. */
export class PayError extends Error {
  override name = 'PayError';
  constructor(
    readonly fault: PayFault,
    /** The wallet's own sentence, or null. */
    readonly detail: string | null = null,
  ) {
    super(`not paid: ${fault}`);
  }
}

interface WebLn {
  enable(): Promise<void>;
  sendPayment(bolt11: string): Promise<unknown>;
}

/** Time-out for the demo's customer, in milliseconds. */
const DEMO_LIMIT = 60_000;

/** The wallet of a browser extension, if there is one. */
export function webln(): WebLn | null {
  const found: unknown = (globalThis as { webln?: unknown }).webln;
  return typeof found === 'object' && found !== null && 'sendPayment' in found ? (found as WebLn) : null;
}

/** Pays with that wallet. */
export async function payWithWebln(bolt11: string): Promise<void> {
  try {
    const wallet = webln();
    await wallet?.enable();
    await wallet?.sendPayment(bolt11);
  } catch {
    throw new PayError('webln');
  }
}

/** Pays with the demo's customer. */
export async function payWithDemoWallet(path: string, bolt11: string): Promise<void> {
  let response: Response;
  try {
    response = await fetch(path, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ bolt11 }),
      signal: AbortSignal.timeout(DEMO_LIMIT),
    });
  } catch {
    throw new PayError('demoAway');
  }
  if (!response.ok) throw new PayError('demoFailed', await errorIn(response));
}

/** The sentence in an error response, or null. */
async function errorIn(response: Response): Promise<string | null> {
  const body: unknown = await response.json().catch(() => null);
  const error = typeof body === 'object' && body !== null ? (body as { error?: unknown }).error : null;
  return typeof error === 'string' ? error.slice(0, 300) : null;
}
