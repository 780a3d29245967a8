/**
 * The languages. Each is a directory with an index; `npm run check` fails where one lacks a key.
 *
 * Texts are functions in typed objects, not messages of a library such as paraglide: some of them are sentences with nodes in
 * their colours or links inside, which only code can put in each language's order, and the compiler checks them like all code.
 */
import { en } from './en';
import { es } from './es';
import type { Format } from './format';

type Load = typeof en.load;

/** A part of the texts that is loaded on its own. */
export type Area = keyof Load;

/** All of them. */
export const AREAS = Object.keys(en.load) as Area[];

/** The texts, by area. English has the keys that all languages have. */
export type Texts = { readonly [A in Area]: ReturnType<Awaited<ReturnType<Load[A]>>> };

/** The languages of printed cards. */
export type CardLanguage = 'en' | 'es';

/** A language. */
export interface Language {
  /** Its name for those who speak it. */
  readonly name: string;
  /** Its locale where the browser names no country. */
  readonly locale: string;
  readonly dir: 'ltr' | 'rtl';
  /** The language of printed cards, which the server has to know (`crates/shop-server/src/cards/words.rs`). */
  readonly cards: CardLanguage;
  /** What is shown if the texts themselves could not be loaded. */
  readonly notLoaded: string;
  /** How its texts are loaded; they are made for a locale. */
  readonly load: { readonly [A in Area]: () => Promise<(f: Format) => Texts[A]> };
}

/** All languages, by their BCP 47 tag. The first is for readers of none of them. */
export const LANGUAGES = { en, es } as const satisfies Record<string, Language>;

/** A language's tag. */
export type Tag = keyof typeof LANGUAGES;

/** The tags, in the order in which they are offered. */
export const TAGS = Object.keys(LANGUAGES) as Tag[];

/** Whether there is a language of this tag. */
export function isTag(value: unknown): value is Tag {
  return typeof value === 'string' && Object.hasOwn(LANGUAGES, value);
}

function baseOf(locale: string): string {
  return (locale.split('-')[0] ?? '').toLowerCase();
}

/** The language for a reader who prefers these locales, best first. */
export function preferred(locales: readonly string[]): Tag {
  return locales.map(baseOf).find(isTag) ?? 'en';
}

/** The locale for a language: the reader's own, if there is one of this language. */
export function localeFor(tag: Tag, locales: readonly string[]): string {
  return locales.find((locale) => baseOf(locale) === tag && isLocale(locale)) ?? LANGUAGES[tag].locale;
}

function isLocale(locale: string): boolean {
  try {
    return Intl.getCanonicalLocales(locale).length === 1;
  } catch {
    return false;
  }
}
