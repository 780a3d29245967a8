/** Wallets that a page can use to pay. Errors are sentences. */

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
    throw new Error('The wallet in this browser did not pay. You can use another one.');
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
    throw new Error('The demo wallet does not answer. Is the demo still running?');
  }
  if (!response.ok) throw new Error(await errorIn(response, 'The demo wallet could not pay.'));
}

/** The sentence in an error response of our server. */
export async function errorIn(response: Response, otherwise: string): Promise<string> {
  const body: unknown = await response.json().catch(() => null);
  const error = typeof body === 'object' && body !== null ? (body as { error?: unknown }).error : null;
  return typeof error === 'string' ? error.slice(0, 300) : otherwise;
}
