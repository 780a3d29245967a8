/**
 * Which part of the wallet is shown. It is kept with the browser's history, so that the back button of a phone works; the
 * address cannot say it, because its fragment is the key to the node.
 */

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

interface Kept {
  readonly wallet?: View;
}

function kept(): View {
  return (history.state as Kept | null)?.wallet ?? { name: 'home' };
}

class Views {
  current = $state.raw<View>(kept());

  /** Follows the browser's back and forward; returns how to stop that. */
  start(): () => void {
    this.current = kept();
    const read = () => {
      this.current = kept();
    };
    addEventListener('popstate', read);
    return () => {
      removeEventListener('popstate', read);
    };
  }

  go(view: View): void {
    history.pushState({ wallet: view } satisfies Kept, '', location.href);
    this.current = view;
    scrollTo({ top: 0, behavior: 'instant' });
  }

  back(): void {
    if ((history.state as Kept | null)?.wallet === undefined) this.current = { name: 'home' };
    else history.back();
  }
}

/** The one choice of the page. */
export const views = new Views();
