/** Prices, and how amounts are written. */

/** An environment's price in millisatoshi, as the shop computes it. */
export function priceMsat(msatPerNodeHour: number, nodeCount: number, hours: number): number {
  return msatPerNodeHour * nodeCount * hours;
}

/** Millisatoshi as whole sat, rounded up as an invoice would be: `76,800`. */
export function sats(msat: number): string {
  return Math.ceil(msat / 1000).toLocaleString('en-US');
}

/** The same with its unit: `76,800 sat`. */
export function inSats(msat: number): string {
  return `${sats(msat)} sat`;
}

/** An amount as Core Lightning writes it: a number of msat, or the same as text with `msat` after it. */
export function readMsat(value: unknown): number {
  if (typeof value === 'number') return value;
  const digits = typeof value === 'string' ? /^(\d+)(msat)?$/.exec(value)?.[1] : undefined;
  return digits === undefined ? 0 : Number(digits);
}
