/** Entry point. */
import { mount } from 'svelte';
import './app.css';
import App from './App.svelte';
import { router } from './lib/router.svelte';
import { theme } from './lib/theme.svelte';
import { areasOf } from './text/areas';
import { language } from './text/index.svelte';
import { LANGUAGES } from './text/languages';

theme.start();
router.start();
const tag = language.start();

const target = document.getElementById('app');
if (target === null) throw new Error('index.html has no #app');
language.load(areasOf(router.route.page)).then(
  () => mount(App, { target }),
  () => {
    target.textContent = LANGUAGES[tag].notLoaded;
  },
);
