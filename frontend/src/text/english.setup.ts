/** Unit tests read English. */
import { language } from './index.svelte';
import { AREAS } from './languages';

await language.load(AREAS);
