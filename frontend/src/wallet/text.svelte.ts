/** The wallet's texts in the reader's language. Another language is one file that has all keys of `text/en.ts`. */
import { sat as inSat } from './data/amount';
import { en } from './text/en';

/** What a language has to have. */
export type Texts = typeof en;

let current = $state.raw<Texts>(en);

/** The texts; what reads them in a template follows a change of the language. */
export const t: Texts = new Proxy(en, { get: (_, key) => current[key as keyof Texts] });

/** Changes the language. */
export function use(texts: Texts): void {
  current = texts;
}

/** An amount in sat, as it is written in this language. */
export function amount(msat: number): string {
  return inSat(msat, current.locale);
}

/** A whole number. */
export function whole(value: number): string {
  return value.toLocaleString(current.locale);
}

/** A moment today, or with its day. Milliseconds since 1970. */
export function moment(ms: number): string {
  const dayOf = new Intl.DateTimeFormat(current.locale, { dateStyle: 'short' });
  const isToday = dayOf.format(ms) === dayOf.format(Date.now());
  const day = isToday ? {} : ({ day: 'numeric', month: 'short' } as const);
  return new Intl.DateTimeFormat(current.locale, {
    ...day,
    hour: '2-digit',
    minute: '2-digit',
    hourCycle: 'h23',
  }).format(ms);
}
