/**
 * The wall without a shop, for pictures and measurements (`tests/browser/frames.mjs`).
 *
 * `wall.html?nodes=64&rate=20` has a made-up room of 64 nodes and 20 payments a second. `wall.html#CARDS`, where CARDS is a JSON
 * list of connection strings, watches real nodes. `window.wallFrames` collects the times of frames, in milliseconds.
 */
import { mount } from 'svelte';
import '../src/app.css';
import { parseConnectionString } from '../src/lib/connection-string';
import { theme } from '../src/lib/theme.svelte';
import { areasOf } from '../src/text/areas';
import { language } from '../src/text/index.svelte';
import type { Show } from '../src/wall/data/seat';
import { Room } from '../src/wall/room.svelte';
import WallView from '../src/wall/WallView.svelte';
import { MadeUp } from './room.svelte';

const times: number[] = [];
Object.assign(window, { wallFrames: times });

function madeUp(): Show {
  const asked = new URL(location.href).searchParams;
  const room = new MadeUp(Number(asked.get('nodes') ?? 64), 7);
  const rate = Number(asked.get('rate') ?? 20);
  if (rate > 0) setInterval(() => { room.pay(); }, 1000 / rate); // prettier-ignore
  setInterval(() => { room.mine(); }, 5000); // prettier-ignore
  return room;
}

function real(cards: string): Show {
  return new Room((JSON.parse(decodeURIComponent(cards)) as string[]).map(parseConnectionString));
}

theme.start();
language.start();
await language.load(areasOf('wall'));
const target = document.getElementById('app');
if (target === null) throw new Error('wall.html has no #app');
mount(WallView, {
  target,
  props: {
    show: location.hash === '' ? madeUp() : real(location.hash.slice(1)),
    title: 'Lightning class, spring term',
    back: '/',
    timeLeft: '1 hour 12 minutes left',
    notice: null,
    hub: -1,
    onframe: (time: number) => times.push(time),
  },
});
