/** Prices and the formatting of amounts. */

/** The price of an environment in millisatoshi, computed as the shop does. */
export function priceMsat(msatPerNodeHour: number, nodeCount: number, hours: number): number {
  return msatPerNodeHour * nodeCount * hours;
}

/** Millisatoshi as whole sat, rounded up like an invoice: `76,800`. */
export function sats(msat: number): string {
  return Math.ceil(msat / 1000).toLocaleString('en-US');
}

/** The same with the unit: `76,800 sat`. */
export function inSats(msat: number): string {
  return `${sats(msat)} sat`;
}

/** Parses an amount of Core Lightning: a number of msat, or a string with or without `msat`. */
export function readMsat(value: unknown): number {
  if (typeof value === 'number') return value;
  const digits = typeof value === 'string' ? /^(\d+)(msat)?$/.exec(value)?.[1] : undefined;
  return digits === undefined ? 0 : Number(digits);
}
