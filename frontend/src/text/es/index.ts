/** Spanish, for readers of all countries, who are addressed with “tú”. */
import type { Language } from '../languages';

export const es: Language = {
  name: 'Español',
  locale: 'es',
  dir: 'ltr',
  cards: 'es',
  notLoaded:
    'No se pudo cargar esta página. Puede que la tienda se haya actualizado o que no haya conexión: vuelve a cargarla.',
  load: {
    common: async () => (await import('./common')).common,
    landing: async () => (await import('./landing')).landing,
    shop: async () => (await import('./shop')).shop,
    status: async () => (await import('./status')).status,
    wall: async () => (await import('./wall')).wall,
    wallet: async () => (await import('./wallet')).wallet,
    guide: async () => (await import('./guide')).guide,
  },
};
