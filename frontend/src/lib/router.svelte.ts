/** Keeps the address bar and the page in step. */
import { routeOf, type Route } from './routes';

class Router {
  #path = $state(location.pathname);
  #hash = $state(location.hash);

  /** The page to show. */
  readonly route: Route = $derived(routeOf(this.#path));

  get hash(): string {
    return this.#hash;
  }

  /** Handles the browser's navigation and links within the site. Call it once. */
  start(): void {
    const read = () => {
      this.#path = location.pathname;
      this.#hash = location.hash;
    };
    addEventListener('popstate', read);
    addEventListener('hashchange', read);
    document.addEventListener('click', (event) => {
      this.#follow(event);
    });
  }

  /** Goes to a page of the app. */
  go(path: string, { replace = false } = {}): void {
    if (replace) history.replaceState(null, '', path);
    else history.pushState(null, '', path);
    this.#path = location.pathname;
    this.#hash = location.hash;
    if (location.hash === '') scrollTo({ top: 0, behavior: 'instant' });
  }

  #follow(event: MouseEvent): void {
    if (event.defaultPrevented || event.button !== 0) return;
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = event.target instanceof Element ? event.target.closest('a') : null;
    if (link === null || link.target !== '' || link.hasAttribute('download')) return;
    const url = new URL(link.href, location.href);
    if (url.origin !== location.origin) return;
    const samePage = url.pathname === location.pathname;
    // The browser handles jumps within a page; other links of the app are shown without loading a document.
    if ((samePage && url.hash !== '') || routeOf(url.pathname).page === 'nowhere') return;
    event.preventDefault();
    this.go(url.pathname + url.search + url.hash);
    if (url.hash !== '')
      requestAnimationFrame(() => document.getElementById(url.hash.slice(1))?.scrollIntoView());
  }
}

/** The page's only router. */
export const router = new Router();
