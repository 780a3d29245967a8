/** Prices, and amounts of Core Lightning. */

/** The price of an environment in millisatoshi, computed as the shop does. */
export function priceMsat(msatPerNodeHour: number, nodeCount: number, hours: number): number {
  return msatPerNodeHour * nodeCount * hours;
}

/** Parses an amount of Core Lightning: a number of msat, or a string with or without `msat`. */
export function readMsat(value: unknown): number {
  if (typeof value === 'number') return value;
  const digits = typeof value === 'string' ? /^(\d+)(msat)?$/.exec(value)?.[1] : undefined;
  return digits === undefined ? 0 : Number(digits);
}
