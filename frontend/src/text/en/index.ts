/** English, whose keys all other languages have. */
export const en = {
  name: 'English',
  locale: 'en-US',
  dir: 'ltr',
  cards: 'en',
  notLoaded:
    'This page could not be loaded. The shop may have been updated, or the network is down: load it again.',
  load: {
    common: async () => (await import('./common')).common,
    landing: async () => (await import('./landing')).landing,
    shop: async () => (await import('./shop')).shop,
    status: async () => (await import('./status')).status,
    wall: async () => (await import('./wall')).wall,
    wallet: async () => (await import('./wallet')).wallet,
    guide: async () => (await import('./guide')).guide,
  },
} as const;
