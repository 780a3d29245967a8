/** The time, for pages that count down: moves each second, and only while somebody looks. */
import { createSubscriber } from 'svelte/reactivity';

const subscribe = createSubscriber((update) => {
  const timer = setInterval(update, 1000);
  document.addEventListener('visibilitychange', update);
  return () => {
    clearInterval(timer);
    document.removeEventListener('visibilitychange', update);
  };
});

/** Milliseconds since 1970; whoever reads it in a template is drawn again each second. */
export function now(): number {
  subscribe();
  return Date.now();
}
