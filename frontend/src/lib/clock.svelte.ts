/** The time, for countdowns. It ticks every second, but only while the page is visible. */
import { createSubscriber } from 'svelte/reactivity';

const subscribe = createSubscriber((update) => {
  const timer = setInterval(update, 1000);
  document.addEventListener('visibilitychange', update);
  return () => {
    clearInterval(timer);
    document.removeEventListener('visibilitychange', update);
  };
});

/** Milliseconds since 1970. A template that reads it is rendered again every second. */
export function now(): number {
  subscribe();
  return Date.now();
}
