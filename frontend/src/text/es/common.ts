/** Spanish: what all pages have around them. */
import type { Format } from '../format';
import type { Texts } from '../languages';

export const common = (f: Format): Texts['common'] => ({
  skip: 'Ir al contenido',
  description:
    'Alquila por horas una red Lightning privada: nodos con fondos para cada asistente de tu encuentro, clase o hackatón. Paga una factura y reparte tarjetas QR un minuto después.',
  titles: {
    landing: 'lnplay.live: una red Lightning para tu sala',
    order: 'Pedir una red · lnplay.live',
    find: 'Buscar mi pedido · lnplay.live',
    status: 'Tu red · lnplay.live',
    wall: 'La pantalla · lnplay.live',
    guide: 'Planes de clase · lnplay.live',
    connect: 'Tu nodo · lnplay.live',
    nowhere: 'Aquí no hay nada · lnplay.live',
  },
  nav: {
    label: 'Principal',
    how: 'Cómo funciona',
    prices: 'Precios',
    questions: 'Preguntas',
    order: 'Mi pedido',
    light: 'Cambiar a colores claros',
    dark: 'Cambiar a colores oscuros',
  },
  shopLink: {
    offline: 'Sin conexión',
    reconnecting: 'Reconectando',
    inSeconds: (seconds) => ` en ${f.whole(seconds)} s`,
    tryNow: '. Intentar ahora',
    theShopIs: 'La tienda está ',
    online: 'en línea',
  },
  footer: 'Redes Lightning privadas en regtest, por horas. Sus monedas no valen nada, a propósito.',
  help: (contact) => ['Ayuda: ', { mark: contact }],
  language: 'Idioma',
  copy: 'Copiar',
  copied: 'Copiado',
  notCopied: 'Tu navegador no lo permitió',
  notLoaded: {
    title: 'No se pudo cargar esta página',
    why: 'Puede que la tienda se haya actualizado o que no haya conexión.',
    again: 'Cargarla de nuevo',
  },
  notFound: {
    title: 'No hay nada en esta dirección',
    why: 'Puede que el enlace esté cortado. La dirección de un pedido termina en un número largo; el enlace de un asistente empieza por /connect.',
  },
  toShop: 'Ir a la tienda',
  findOrder: 'Buscar mi pedido',
  update: {
    text: 'Hay una versión nueva de esta página.',
    load: 'Cargarla',
    later: 'Más tarde',
  },
  left: (ms) => (ms < 60_000 ? 'menos de un minuto' : f.duration(ms)),
});
