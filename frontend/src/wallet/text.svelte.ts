/** The wallet's texts and amounts, in the reader's language. */
import { format, textsOf } from '../text/index.svelte';

/** The texts; what reads them in a template follows a change of the language. */
export const t = textsOf('wallet');

/** An amount of msat in sat, without its unit. */
export function amount(msat: number): string {
  return format.sat(msat);
}

/** A whole number. */
export function whole(value: number): string {
  return format.whole(value);
}

/** A moment today, or with its day. Milliseconds since 1970. */
export function moment(ms: number): string {
  return format.soon(ms);
}
