/** The wall's texts, in the reader's language. */
import { textsOf } from '../text/index.svelte';

/** The texts; what reads them in a template follows a change of the language. */
export const t = textsOf('wall');
