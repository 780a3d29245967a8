import { afterEach, beforeEach, expect, it, vi } from 'vitest';

/** A browser with these languages, which remembers `kept`. */
function browser(languages: readonly string[], kept: string | null = null) {
  const stored = new Map(kept === null ? [] : [['lnplaylive.language', kept]]);
  const listeners = new Map<string, (event: { key: string | null }) => void>();
  vi.stubGlobal('navigator', { languages });
  vi.stubGlobal('localStorage', {
    getItem: (key: string) => stored.get(key) ?? null,
    setItem: (key: string, value: string) => stored.set(key, value),
  });
  vi.stubGlobal('addEventListener', (name: string, listener: () => void) => listeners.set(name, listener));
  const root = { lang: '', dir: '' };
  vi.stubGlobal('document', { documentElement: root });
  return { stored, root, hear: (name: string, key: string | null = null) => listeners.get(name)?.({ key }) };
}

/** The module as a page gets it. */
let texts: typeof import('./index.svelte');

beforeEach(async () => {
  vi.resetModules();
  texts = await import('./index.svelte');
});

afterEach(() => {
  vi.unstubAllGlobals();
});

it('takes the browser’s language and writes numbers as its country does', async () => {
  const { root } = browser(['es-MX', 'en']);
  expect(texts.language.start()).toBe('es');
  await texts.language.load(['common']);
  expect(texts.textsOf('common').copy).toBe('Copiar');
  expect(texts.format.whole(76_800)).toBe('76,800');
  expect(root).toEqual({ lang: 'es', dir: 'ltr' });
});

it('keeps the reader’s choice, in all tabs', async () => {
  const { stored, hear } = browser(['es'], 'en');
  const { language, textsOf } = texts;
  language.start();
  await language.load(['common']);
  expect(textsOf('common').copy).toBe('Copy');
  await language.choose('es');
  expect([textsOf('common').copy, stored.get('lnplaylive.language')]).toEqual(['Copiar', 'es']);
  // Another tab.
  stored.set('lnplaylive.language', 'en');
  hear('storage', 'lnplaylive.language');
  await vi.waitFor(() => {
    expect(textsOf('common').copy).toBe('Copy');
  });
  stored.set('lnplaylive.language', 'nonsense');
  hear('storage');
  await vi.waitFor(() => {
    expect(textsOf('common').copy).toBe('Copiar');
  });
});

it('works where nothing can be stored', async () => {
  browser(['en']);
  const forbidden = () => {
    throw new DOMException('forbidden', 'SecurityError');
  };
  vi.stubGlobal('localStorage', { getItem: forbidden, setItem: forbidden });
  expect(texts.language.start()).toBe('en');
  await texts.language.choose('es');
  await texts.language.load(['common']);
  expect(texts.textsOf('common').copy).toBe('Copiar');
});

it('has all that a page needs in the language that was chosen while it was loaded', async () => {
  browser(['en']);
  const { language, textsOf } = texts;
  language.start();
  await language.load(['common']);
  const loading = language.load(['guide']);
  const choosing = language.choose('es');
  await loading;
  expect(textsOf('guide').say).toBe('Di');
  expect(textsOf('common').copy).toBe('Copiar');
  await choosing;
});

it('refuses to guess where a page has forgotten to load its texts', async () => {
  browser(['en']);
  await texts.language.load(['common']);
  expect(() => texts.textsOf('guide').say).toThrow('the texts of guide were not loaded');
});
