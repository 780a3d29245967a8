/** The texts of the page, in the reader's language: the browser's, until the reader chooses. Tabs stay in step. */
import { formats, type Format } from './format';
import { isTag, LANGUAGES, localeFor, preferred, type Area, type Tag, type Texts } from './languages';

const KEY = 'lnplaylive.language';

/** What is shown at the moment. */
interface Shown {
  readonly tag: Tag;
  readonly format: Format;
  readonly texts: Partial<Texts>;
}

function chosen(): Tag | null {
  try {
    const value = localStorage.getItem(KEY);
    return isTag(value) ? value : null;
  } catch {
    return null;
  }
}

/** What was loaded of a language, in one locale. */
class Loaded {
  readonly format: Format;
  readonly texts: Partial<Texts> = {};

  constructor(
    readonly tag: Tag,
    locale: string,
  ) {
    this.format = formats(locale);
  }

  async load<A extends Area>(area: A): Promise<void> {
    if (this.texts[area] !== undefined) return;
    // TypeScript does not see that the loader of an area has the texts of that area.
    const make = (await LANGUAGES[this.tag].load[area]()) as (f: Format) => Texts[A];
    this.texts[area] = make(this.format);
  }
}

class LanguageState {
  #wanted: Tag = 'en';
  #locales: readonly string[] = ['en-US'];
  readonly #areas = new Set<Area>();
  readonly #loaded = new Map<string, Loaded>();
  #shown = $state.raw<Shown>({ tag: 'en', format: formats('en-US'), texts: {} });

  /** The language that is shown. */
  get tag(): Tag {
    return this.#shown.tag;
  }

  /** Its ways to write numbers and times. */
  get format(): Format {
    return this.#shown.format;
  }

  /** The texts of an area, which the page must have loaded. */
  texts<A extends Area>(area: A): Texts[A] {
    const texts = this.#shown.texts[area];
    if (texts === undefined) throw new Error(`the texts of ${area} were not loaded`);
    return texts;
  }

  /** Takes the reader's language, returns it, and follows the browser and the other tabs. Call it once, before anything is loaded. */
  start(): Tag {
    this.#locales = navigator.languages;
    this.#wanted = chosen() ?? preferred(this.#locales);
    addEventListener('storage', ({ key }) => {
      if (key === KEY || key === null) this.#follow();
    });
    addEventListener('languagechange', () => {
      this.#locales = navigator.languages;
      this.#follow();
    });
    return this.#wanted;
  }

  /** Loads what a page needs; what it had before stays. Rejects if there is no network, or the shop was updated. */
  async load(areas: readonly Area[]): Promise<void> {
    for (const area of areas) this.#areas.add(area);
    await this.#load();
  }

  /** Changes the language, and keeps the choice on this device. */
  async choose(tag: Tag): Promise<void> {
    try {
      localStorage.setItem(KEY, tag);
    } catch {
      // Without storage the choice holds for this page only.
    }
    this.#wanted = tag;
    await this.#load();
  }

  #follow(): void {
    this.#wanted = chosen() ?? preferred(this.#locales);
    // What cannot be loaded now stays in the language before.
    this.#load().catch(() => undefined);
  }

  async #load(): Promise<void> {
    const locale = localeFor(this.#wanted, this.#locales);
    const loaded = this.#loaded.get(locale) ?? new Loaded(this.#wanted, locale);
    this.#loaded.set(locale, loaded);
    await Promise.all([...this.#areas].map((area) => loaded.load(area)));
    // Another language may have been chosen meanwhile, and the page needs all of it.
    if (loaded.tag !== this.#wanted) await this.#load();
    else this.#show(loaded);
  }

  #show({ tag, format, texts }: Loaded): void {
    this.#shown = { tag, format, texts: { ...texts } };
    if (typeof document === 'undefined') return;
    document.documentElement.lang = tag;
    document.documentElement.dir = LANGUAGES[tag].dir;
  }
}

/** The page's only language. */
export const language = new LanguageState();

/** The texts of an area; what reads them in a template follows a change of the language. */
export function textsOf<A extends Area>(area: A): Texts[A] {
  return new Proxy({} as Texts[A], { get: (_, key) => Reflect.get(language.texts(area), key) as unknown });
}

/** Numbers, amounts and times as the reader's language writes them. */
export const format: Format = new Proxy({} as Format, {
  get: (_, key) => Reflect.get(language.format, key) as unknown,
});
