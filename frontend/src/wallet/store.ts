/** What a browser keeps of a node: the last snapshot, what was tried, what was accomplished. Shared by all tabs. */
import type { Attempt } from './data/attempts';
import type { Accomplished } from './data/missions';
import type { Snapshot } from './data/snapshot';

/** Of this format; anything else is ignored. */
const VERSION = 'v1';

interface Kept {
  readonly snapshot: Snapshot;
  readonly attempts: readonly Attempt[];
  readonly missions: Accomplished;
}

/** A browser's memory of one node. It may be full or forbidden; then nothing is kept, and all else works. */
export class Store {
  readonly #prefix: string;

  constructor(nodeId: string) {
    this.#prefix = `lnplay.wallet.${VERSION}.${nodeId}.`;
  }

  read<K extends keyof Kept>(key: K): Kept[K] | null {
    try {
      const text = localStorage.getItem(this.#prefix + key);
      return text === null ? null : (JSON.parse(text) as Kept[K]);
    } catch {
      return null;
    }
  }

  write<K extends keyof Kept>(key: K, value: Kept[K]): void {
    try {
      localStorage.setItem(this.#prefix + key, JSON.stringify(value));
    } catch {
      // Full or forbidden.
    }
  }

  /** Calls back when another tab has written a key; returns how to stop that. */
  subscribe(listener: (key: keyof Kept) => void): () => void {
    const heard = ({ key }: StorageEvent) => {
      if (key?.startsWith(this.#prefix) === true) listener(key.slice(this.#prefix.length) as keyof Kept);
    };
    addEventListener('storage', heard);
    return () => {
      removeEventListener('storage', heard);
    };
  }
}

/** A card that was opened on this device. Its link is a key: it stays in this browser. */
export interface Card {
  readonly nodeId: string;
  readonly name: string;
  readonly color: string | null;
  readonly fragment: string;
}

const CARDS = `lnplay.wallet.${VERSION}.cards`;
const CARDS_KEPT = 20;

/** The cards that were opened here, the last one first. */
export function cards(): Card[] {
  try {
    const read = JSON.parse(localStorage.getItem(CARDS) ?? '[]') as unknown;
    return Array.isArray(read) ? (read as Card[]) : [];
  } catch {
    return [];
  }
}

function keep(all: readonly Card[]): void {
  try {
    localStorage.setItem(CARDS, JSON.stringify(all.slice(0, CARDS_KEPT)));
  } catch {
    // Full or forbidden: the card itself is at hand.
  }
}

/** Remembers a card. */
export function rememberCard(card: Card): void {
  keep([card, ...cards().filter(({ nodeId }) => nodeId !== card.nodeId)]);
}

/** Forgets a card, and all that is kept of its node. */
export function forgetCard(nodeId: string): void {
  keep(cards().filter((card) => card.nodeId !== nodeId));
  const prefix = `lnplay.wallet.${VERSION}.${nodeId}.`;
  try {
    for (const key of Object.keys(localStorage)) if (key.startsWith(prefix)) localStorage.removeItem(key);
  } catch {
    // Nothing was kept.
  }
}
