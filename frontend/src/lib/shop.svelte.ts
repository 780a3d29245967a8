/** The state of the shop, shared by all pages: configuration, connection, catalogue. */
import { ConfigError, loadConfig, type ShopConfig } from './config';
import { Link } from './node/link';
import { dial } from './node/dial';
import type { LinkState } from './node/node';
import { products } from './node/shop';
import { servedCatalogue, type Awaited, type Catalogue } from './products';

/** Maximum age of the availability while the page is visible, in milliseconds. */
const REFRESH = 60_000;

/** The same while the shop is not open yet. */
const REFRESH_WHILE_CLOSED = 10_000;

/** Delay before the configuration is requested again after a failure, in milliseconds. */
const CONFIG_RETRY = 10_000;

class Shop {
  config = $state.raw<ShopConfig | null>(null);
  /** The error because of which there is no configuration; null if there is none. */
  configProblem = $state.raw<unknown>(null);
  link = $state.raw<Link | null>(null);
  linkState = $state.raw<LinkState>({ kind: 'connecting' });
  catalogue = $state.raw<Catalogue | null>(null);
  /** True while the shop's node has not started since its server was set up. */
  isStarting = $state(false);
  /** The error because of which the catalogue is missing or outdated; null if there is none. */
  catalogueProblem = $state.raw<unknown>(null);
  /** True if the browser reports a network. */
  online = $state(navigator.onLine);

  #started = false;

  /** Connects, once. Pages that need the node call it. */
  start(): void {
    if (this.#started) return;
    this.#started = true;
    addEventListener('offline', () => {
      this.online = false;
    });
    addEventListener('online', () => {
      this.online = true;
      this.retry();
    });
    let looked = Date.now();
    setInterval(() => {
      const due = this.awaited === null ? REFRESH : 0;
      if (document.hidden || this.linkState.kind !== 'connected' || Date.now() - looked < due) return;
      looked = Date.now();
      void this.refresh();
    }, REFRESH_WHILE_CLOSED);
    void this.#load();
  }

  /** Retries everything that failed. */
  retry(): void {
    if (this.link !== null) this.link.retryNow();
    else if (this.#started) void this.#load();
  }

  /** Contact for help. */
  get contact(): string | null {
    return this.config?.contact ?? this.catalogue?.contact ?? null;
  }

  /** What has to happen before the shop opens; null while it is open, or nothing is known. */
  get awaited(): Awaited | null {
    if (this.isStarting) return { kind: 'starting', blocks: null, headers: null };
    return this.catalogue?.awaited ?? null;
  }

  async #load(): Promise<void> {
    try {
      this.config = await loadConfig(new URL(location.href));
      this.configProblem = null;
      this.isStarting = false;
    } catch (error) {
      this.configProblem = error;
      this.isStarting = error instanceof ConfigError && error.fault === 'starting';
      setTimeout(() => {
        if (this.link === null) void this.#load();
      }, CONFIG_RETRY);
      return;
    }
    if (this.link === null) this.#connect(this.config);
  }

  #connect({ nodeId, websocketUrl: url, rune }: ShopConfig): void {
    const link = new Link({ nodeId, url, rune }, dial);
    this.link = link;
    link.subscribe((state) => {
      if (this.link !== link) return;
      this.linkState = state;
      if (state.kind === 'connected') void this.refresh();
      // The shop may have moved to another node since the page was opened.
      if (state.kind === 'waiting' && state.fault === 'stranger') void this.#look();
    });
  }

  /** Applies a changed configuration. */
  async #look(): Promise<void> {
    const known = JSON.stringify(this.config);
    const config = await loadConfig(new URL(location.href)).catch(() => null);
    if (config === null || JSON.stringify(config) === known || JSON.stringify(this.config) !== known) return;
    this.link?.close();
    this.config = config;
    this.#connect(config);
  }

  /** Asks the shop's server, and the node only if that does not know. */
  async refresh(): Promise<void> {
    const served = await servedCatalogue();
    if (served === null && this.link === null) return;
    try {
      this.catalogue = served ?? (await products(this.link as Link));
      this.catalogueProblem = null;
    } catch (error) {
      this.catalogueProblem = error;
    }
  }
}

/** The page's only shop. */
export const shop = new Shop();
