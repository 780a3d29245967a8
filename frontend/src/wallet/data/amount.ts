/** Amounts as people type them, and shares. Everything inside is in msat; `text/format.ts` shows amounts. */

/** The most that there can be: 21 million bitcoin, in sat. */
const MAX_SAT = 21e14;

/** Reads an amount in sat as people type it: `21000`, `21,000`, `21 000`, `21'000`. Null if it is none. */
export function parseSats(text: string): number | null {
  const plain = text.trim().replace(/\s*sats?$/i, '');
  if (!/^\d+$/.test(plain) && !/^\d{1,3}([ ,.'’_\u00a0\u202f]\d{3})+$/.test(plain)) return null;
  const sat = Number(plain.replace(/\D/g, ''));
  return sat <= MAX_SAT ? sat * 1000 : null;
}

/** A share in whole percent, 0 to 100; 0 of nothing. */
export function percent(part: number, whole: number): number {
  return whole > 0 ? Math.min(100, Math.max(0, Math.round((100 * part) / whole))) : 0;
}
