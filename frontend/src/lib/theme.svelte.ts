/** Dark or light theme: the system's, until the user chooses. */

type Theme = 'light' | 'dark';

const KEY = 'lnplaylive.theme';
const system = matchMedia('(prefers-color-scheme: dark)');

function chosen(): Theme | null {
  try {
    const value = localStorage.getItem(KEY);
    return value === 'light' || value === 'dark' ? value : null;
  } catch {
    return null;
  }
}

class ThemeState {
  #system = $state<Theme>(system.matches ? 'dark' : 'light');
  #chosen = $state(chosen());

  /** The current theme. */
  readonly shown: Theme = $derived(this.#chosen ?? this.#system);

  /** Applies an earlier choice, and follows the system. Call it once, before anything is rendered. */
  start(): void {
    this.#apply();
    system.addEventListener('change', () => {
      this.#system = system.matches ? 'dark' : 'light';
    });
  }

  toggle(): void {
    this.#chosen = this.shown === 'dark' ? 'light' : 'dark';
    this.#apply();
    try {
      localStorage.setItem(KEY, this.#chosen);
    } catch {
      // Without storage the choice holds for this page only.
    }
  }

  #apply(): void {
    if (this.#chosen !== null) document.documentElement.dataset['theme'] = this.#chosen;
  }
}

/** The page's only theme. */
export const theme = new ThemeState();
