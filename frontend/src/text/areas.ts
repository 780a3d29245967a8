/** Which texts a page needs: each page loads its areas, in the reader's language only. */
import type { Route } from '../lib/routes';
import type { Area } from './languages';

/** The areas of a page. */
export function areasOf(page: Route['page']): readonly Area[] {
  switch (page) {
    case 'landing':
      return ['common', 'landing', 'shop'];
    case 'order':
    case 'find':
      return ['common', 'shop'];
    case 'status':
      return ['common', 'shop', 'status'];
    case 'wall':
      return ['common', 'wall'];
    case 'guide':
      return ['common', 'guide'];
    case 'connect':
      return ['common', 'wallet'];
    case 'nowhere':
      return ['common'];
  }
}
