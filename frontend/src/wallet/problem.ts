/** What went wrong with a call that is not a payment. */
import { LinkError, RpcError } from '../lib/node/node';
import type { Trouble } from './data/failure';
import { troubleOf } from './wallet.svelte';

/** The node said no; or nobody knows whether it was done; or the page did not understand the answer. */
export type Problem =
  | { readonly kind: 'refused'; readonly trouble: Trouble }
  | { readonly kind: 'no-answer' }
  | { readonly kind: 'odd' };

/** Sorts an error. */
export function problemOf(error: unknown): Problem {
  if (error instanceof RpcError) return { kind: 'refused', trouble: troubleOf(error) };
  return error instanceof LinkError ? { kind: 'no-answer' } : { kind: 'odd' };
}
