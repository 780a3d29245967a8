/**
 * Which part of the wallet is shown. It is kept with the browser's history, so that the back button of a phone works; the
 * address cannot say it, because its fragment is the key to the node.
 */

import type { Snapshot } from './data/snapshot';
import type { Wallet } from './wallet.svelte';

/** A part of the wallet. */
export type View =
  | { readonly name: 'home' }
  | { readonly name: 'pay'; readonly text?: string }
  | { readonly name: 'receive' }
  | { readonly name: 'channels' }
  | { readonly name: 'open'; readonly nodeId?: string }
  | { readonly name: 'channel'; readonly channelId: string }
  | { readonly name: 'move' }
  | { readonly name: 'history' }
  | { readonly name: 'missions' }
  | { readonly name: 'more' }
  | { readonly name: 'chain'; readonly to?: string }
  | { readonly name: 'console' }
  | { readonly name: 'other' };

/** What a view is given. */
export interface ViewProps {
  readonly wallet: Wallet;
  readonly snapshot: Snapshot;
  readonly view: View;
}

interface Kept {
  readonly wallet?: View;
}

function kept(): View {
  return (history.state as Kept | null)?.wallet ?? { name: 'home' };
}

class Views {
  current = $state.raw<View>(kept());
  #hasMoved = false;

  /** Follows the browser's back and forward; returns how to stop that. */
  start(): () => void {
    this.current = kept();
    this.#hasMoved = false;
    const read = () => {
      this.#hasMoved = true;
      this.current = kept();
    };
    addEventListener('popstate', read);
    return () => {
      removeEventListener('popstate', read);
    };
  }

  /** Whether somebody has come here from another view. */
  get hasMoved(): boolean {
    return this.#hasMoved;
  }

  go(view: View): void {
    history.pushState({ wallet: view } satisfies Kept, '', location.href);
    this.#hasMoved = true;
    this.current = view;
    scrollTo({ top: 0, behavior: 'instant' });
  }

  back(): void {
    this.#hasMoved = true;
    if ((history.state as Kept | null)?.wallet === undefined) this.current = { name: 'home' };
    else history.back();
  }
}

/** Gives the heading of a view the focus when it is shown, so that a screen reader says where we are; not on the first one. */
export function announce(heading: HTMLElement): void {
  if (views.hasMoved) heading.focus({ preventScroll: true });
}

/** The one choice of the page. */
export const views = new Views();
