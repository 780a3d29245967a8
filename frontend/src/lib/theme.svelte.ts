/** Dark or light: as the system says, until somebody chooses. */

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

  /** What is shown. */
  readonly shown: Theme = $derived(this.#chosen ?? this.#system);

  /** Applies what was chosen before, and follows the system. Called once, before anything is drawn. */
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
      // Then it holds for this page only.
    }
  }

  #apply(): void {
    if (this.#chosen !== null) document.documentElement.dataset['theme'] = this.#chosen;
  }
}

/** The one theme of the page. */
export const theme = new ThemeState();
