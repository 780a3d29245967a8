import { describe, expect, it } from 'vitest';
import { findInvoiceId, isInvoiceId, routeOf } from './routes';

const ID = 'lnplaylive-0819da5d-5cfa-411b-a851-8c08f9178624';

describe('routeOf', () => {
  it('knows the pages, with or without a slash at the end', () => {
    expect(routeOf('/')).toEqual({ page: 'landing' });
    expect(routeOf('/order')).toEqual({ page: 'order' });
    expect(routeOf('/orders/')).toEqual({ page: 'find' });
    expect(routeOf('/connect')).toEqual({ page: 'connect' });
    expect(routeOf(`/orders/${ID}`)).toEqual({ page: 'status', invoiceId: ID });
    expect(routeOf(`/orders/${ID}/wall`)).toEqual({ page: 'wall', invoiceId: ID });
    expect(routeOf('/guide')).toEqual({ page: 'guide', plan: null });
    expect(routeOf('/guide/class')).toEqual({ page: 'guide', plan: 'class' });
  });

  it.each(['/nowhere', '/order/x', '/connect/x', '/guide/x', '/guide/class/x', '/index.html', '//order/x'])(
    'has no page at %s',
    (path) => {
      expect(routeOf(path)).toEqual({ page: 'nowhere' });
    },
  );

  it.each(['/orders/x', '/orders/%E0%A4', '/orders/../etc', `/orders/${ID}/more`, '/orders/<script>'])(
    'takes %s for an order that does not exist',
    (path) => {
      const route = routeOf(path);
      expect(route.page).toBe('status');
      expect(route.page === 'status' && isInvoiceId(route.invoiceId)).toBe(false);
    },
  );
});

it.each([
  [`https://shop.example/orders/${ID}`, ID],
  [`  ${ID}\n`, ID],
  [ID.toUpperCase(), ID],
  ['https://shop.example/orders/', null],
  [ID.slice(0, -1), null],
])('finds the id in %s', (pasted, id) => {
  expect(findInvoiceId(pasted)).toBe(id);
});
