/**
 * The wall with a made-up room: `wall.html?nodes=64&rate=20` has 64 nodes and 20 payments a second. `window.frames` collects the
 * times of frames in milliseconds. `npm run bench` measures it (`measure.ts`).
 */
import { mount } from 'svelte';
import '../src/app.css';
import { theme } from '../src/lib/theme.svelte';
import WallView from '../src/wall/WallView.svelte';
import { MadeUp } from './room.svelte';

const asked = new URL(location.href).searchParams;
const room = new MadeUp(Number(asked.get('nodes') ?? 64), 7);
const rate = Number(asked.get('rate') ?? 20);
const times: number[] = [];
Object.assign(window, { frames: times });

theme.start();
const target = document.getElementById('app');
if (target === null) throw new Error('wall.html has no #app');
mount(WallView, {
  target,
  props: {
    show: room,
    title: 'Lightning class, spring term',
    back: '/',
    timeLeft: '1 hour 12 minutes left',
    notice: null,
    hub: -1,
    onframe: (time: number) => times.push(time),
  },
});
if (rate > 0) setInterval(() => { room.pay(); }, 1000 / rate); // prettier-ignore
setInterval(() => { room.mine(); }, 5000); // prettier-ignore
