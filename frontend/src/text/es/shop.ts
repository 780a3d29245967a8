/** Spanish: ordering and paying, and what can go wrong with the shop. */
import type { Awaited } from '../../lib/products';
import type { Format } from '../format';
import type { Texts } from '../languages';

export const shop = (f: Format): Texts['shop'] => {
  const nodes = (n: number) => f.count(n, { one: 'nodo', many: 'de nodos', other: 'nodos' });
  const after = (seconds: number) => (seconds > 0 ? `en ${f.seconds(seconds)}` : 'dentro de unos minutos');
  const again = 'Vuelve a intentarlo en un momento.';
  const soldOut = 'Agotado';
  const openingSoon = 'Abrimos pronto';
  const down = 'No hay conexión con el nodo. Esta página sigue intentándolo.';

  function waiting({ kind, blocks, headers }: Awaited): string {
    const done =
      blocks === null || headers === null || headers <= 0
        ? ''
        : `: ${f.whole(blocks)} de ${f.whole(headers)} bloques por ahora`;
    switch (kind) {
      case 'starting':
        return 'El nodo de la tienda está arrancando por primera vez. Puede tardar horas, porque antes lee toda la cadena.';
      case 'bitcoind_sync':
        return `El nodo Bitcoin de la tienda se está poniendo al día con la red${done}.`;
      case 'lightningd_sync':
        return `El nodo Lightning de la tienda está leyendo los últimos bloques${done}.`;
      case 'no_channels':
      case 'channels_opening':
        return 'El nodo Lightning de la tienda está abriendo sus primeros canales para poder cobrar.';
      case 'peers_offline':
        return 'El nodo Lightning de la tienda está esperando a que vuelvan sus pares.';
      default:
        return 'El nodo Lightning de la tienda no puede recibir pagos en este momento.';
    }
  }

  return {
    nodes,
    what: (nodeCount, hours) => `${nodes(nodeCount)} durante ${f.hours(hours)}`,
    price: (msat) => `${f.price(msat)} ${Math.ceil(msat / 1000) === 1 ? 'sat' : 'sats'}`,
    waiting,
    openingSoon,
    retry: 'Reintentar',
    cannotReach: 'No se puede conectar con la tienda en este momento. Esta página sigue intentándolo.',
    stranger:
      'Alguien respondió, pero no es el nodo que conocemos, así que no se envía nada. Esta página sigue intentándolo.',

    presets: {
      evening: 'Una tarde',
      day: 'Un día',
      weekend: 'Un fin de semana',
      week: 'Una semana',
    },
    availability: {
      notPayable: 'No se puede pagar ahora',
      soldOut,
      soldOutUntil: (at) => `${soldOut} hasta: ${f.moment(at)}`,
      onlyLeft: (n) => (n === 1 ? 'Solo queda 1' : `Solo quedan ${f.whole(n)}`),
      now: 'Disponible ahora',
    },

    form: {
      label: 'Pedir una red',
      howMany: '¿Cuántos nodos?',
      sizeNodes: ' nodos',
      sizeOut: ', no se puede pagar ahora',
      share: 'Uno para cada asistente. Dos personas pueden compartir uno.',
      howLong: '¿Cuánto tiempo?',
      slider: 'Horas, aproximadamente',
      hours: 'horas',
      priceAsked: 'Consultando el precio',
      button: {
        soon: openingSoon,
        ordering: 'Creando tu factura…',
        tooLarge: 'Demasiado grande ahora',
        soldOut,
        connecting: 'Conectando…',
        order: 'Obtener la factura',
      },
      looksAgain: 'Esta página lo comprueba por sí sola; hasta entonces no se vende nada.',
      tooLarge: (nodeCount, hours, most) =>
        `${nodes(nodeCount)} durante ${f.hours(hours)} cuestan más de lo que el nodo Lightning de la tienda puede recibir ahora en un solo pago. ${
          most > 0
            ? `Son posibles hasta ${f.hours(most)}, o un tamaño menor.`
            : 'Quizá sea posible un tamaño menor.'
        }`,
      soldOut: (nodeCount, until) =>
        `La red de ${nodes(nodeCount)} está agotada${until === null ? '' : ` (disponible de nuevo: ${f.moment(until)})`}. Puede que haya otro tamaño libre ahora mismo.`,
    },

    options: {
      summary: 'Más opciones',
      hint: 'nombres, monedas, canales, un título para las tarjetas',
      channels: 'Canales al empezar',
      coins: 'Quién tiene las monedas',
      usual: 'Lo habitual',
      title: 'Título en las tarjetas',
      titleExample: 'Noche Lightning, Lisboa',
      names: (nodeCount) => (nodeCount === 1 ? 'Nombre del nodo' : `Nombres de los ${nodes(nodeCount)}`),
      namesExample: 'Alicia, Bruno, Carla… (los nuestros, si lo dejas vacío)',
      namesHelp: 'Uno por línea o separados por comas. Toda la red puede verlos.',
      coinsOf: {
        egalitarian: 'Igualitaria: lo mismo para cada nodo',
        political: 'Política: unos pocos tienen casi todo',
        poisson: 'Poisson: repartidas en torno a la media',
        pow: 'Prueba de trabajo: como si las hubieran minado',
      },
      channelsOf: {
        none: 'Ninguno: los asistentes abren los suyos',
        star: 'Estrella: un centro conectado con todos',
        circular: 'Círculo: cada nodo con el siguiente',
        prism: 'Prisma: uno paga a un centro que reparte',
      },
    },
    names: (problem) => {
      switch (problem.kind) {
        case 'long':
          return `“${problem.name}” es demasiado largo: un nombre tiene como máximo ${f.whole(problem.most)} letras.`;
        case 'twice':
          return 'Cada nombre se puede usar una sola vez, para poder distinguir los nodos.';
        case 'count':
          return `Hay ${f.count(problem.given, { one: 'nombre', many: 'de nombres', other: 'nombres' })} para ${nodes(problem.nodes)}; pon uno para cada nodo, o ninguno.`;
      }
    },
    picture: (nodeCount, channels) =>
      `${nodes(nodeCount)} en círculo${channels > 0 ? `, ${f.count(channels, { one: 'canal', many: 'de canales', other: 'canales' })}` : ''}`,

    order: {
      pay: 'Paga la factura',
      change: 'Cambiar el pedido',
      costsNothing: 'Una factura que no se paga no cuesta nada.',
      lapsed: 'Esta factura ha caducado',
      lapsedWhy: (nodeCount, hours) =>
        `No se pagó nada y no se ha perdido nada. Puedes volver a pedir ahora mismo ${nodes(nodeCount)} durante ${f.hours(hours)}.`,
      again: 'Crear una factura nueva',
      title: 'Pedir una red',
      lead: 'Elige un tamaño y una duración. Pagas con Lightning; no hay que crear ninguna cuenta.',
    },

    invoice: {
      open: 'Abrir la factura en una billetera',
      code: 'Código QR de la factura',
      scan: 'Escanea el código con cualquier billetera Lightning. Esta página detecta el pago por sí sola y continúa.',
      demo: 'Pagar con la billetera de demostración',
      paying: 'Pagando…',
      openWallet: 'Abrir en una billetera',
      browser: 'Pagar en este navegador',
      copy: 'Copiar factura',
      waiting: 'Esperando tu pago.',
      left: (clock) => `Quedan ${clock}.`,
      over: 'Se acabó el tiempo; preguntando a la tienda si se pagó.',
      asText: 'La factura como texto',
      faults: {
        webln: 'La billetera de este navegador no pagó. Puedes usar otra.',
        demoAway: 'La billetera de demostración no responde. ¿Sigue en marcha la demostración?',
        demoFailed: 'La billetera de demostración no pudo pagar.',
      },
    },

    find: {
      how: 'Tu pedido tiene una dirección propia, que es también su llave. Deja que tu gestor de contraseñas la rellene, o pégala.',
      address: 'Dirección del pedido',
      none: 'Aquí no hay ninguna dirección de un pedido. Son así: …/orders/lnplaylive-0819da5d-….',
      open: 'Abrir el pedido',
      seen: 'Vistos en este navegador',
      anOrder: 'Un pedido',
      lastSeen: (at) => `visto por última vez: ${f.moment(at)}`,
    },

    errors: {
      config: {
        wrong: (detail) => `La tienda está mal configurada: ${detail}. Su operador tiene que corregirlo.`,
        unreachable:
          'No se puede conectar con el servidor de la tienda en este momento. No se ha perdido nada; vuelve a intentarlo enseguida.',
        starting: 'El nodo de la tienda todavía no ha arrancado. Esta página lo comprueba por sí sola.',
      },
      link: {
        stranger:
          'Alguien respondió, pero no es el nodo que conocemos. Por tu seguridad no se envía nada. Puede que la tienda se esté reiniciando; si sigue así, avisa a su operador.',
        timeout: 'El nodo tardó demasiado en responder. Vuelve a intentarlo.',
        unreachable: down,
        lost: down,
        closed: down,
      },
      manyOrders: (seconds) =>
        `Hubo muchos pedidos desde tu red en el último minuto. Vuelve a intentarlo ${after(seconds)}.`,
      odd: 'No se entendió la respuesta de la tienda. Carga la página de nuevo; si no sirve, avisa al operador.',
      page: 'Algo salió mal en esta página. Cárgala de nuevo; tu pedido se conserva.',
      noSuchMethod:
        'El nodo de la tienda no conoce esta petición. Puede que la tienda se esté reiniciando; vuelve a intentarlo en un momento.',
      tooSoon: 'Ocupado: otra persona está preguntando en este mismo segundo. Vuelve a intentarlo.',
      refusedKey: 'El nodo no acepta esta clave. Puede que la hayan cambiado; carga la página de nuevo.',
      unknown: (code) => `El nodo respondió con un error que esta página no conoce (${code}).`,

      noSuchOrder:
        'No existe ese pedido. Comprueba que la dirección esté completa; los pedidos que nunca se pagaron se olvidan al cabo de un tiempo.',
      noRemotes:
        'La tienda no tiene servidores en este momento, así que no se puede vender nada. Vuelve más tarde.',
      busy: (seconds) => `Mucha gente está haciendo pedidos ahora. Vuelve a intentarlo ${after(seconds)}.`,
      ticketRequired: (seconds) =>
        `Mucha gente está haciendo pedidos ahora. Carga la página de nuevo o vuelve a intentarlo ${after(seconds)}.`,
      ticketSpent: 'Tu petición llegó demasiado tarde o dos veces. Vuelve a intentarlo.',
      unpaid: {
        client: (seconds) =>
          `Tienes pedidos sin pagar que te reservan plazas. Paga uno de ellos o vuelve a intentarlo ${after(seconds)}.`,
        network: (seconds) =>
          `Otras personas de tu red tienen pedidos sin pagar que les reservan plazas. Vuelve a intentarlo ${after(seconds)}.`,
        other: (seconds) =>
          `Hay demasiados pedidos sin pagar en este momento. Vuelve a intentarlo ${after(seconds)}.`,
      },
      notSupported: (feature) =>
        feature === null
          ? 'Esta tienda todavía no puede hacer lo que se pidió.'
          : `Esta tienda todavía no puede hacer esto: ${feature}.`,
      damagedRecord:
        'El registro de este pedido está dañado. El operador ya lo sabe; guarda la dirección de esta página.',
      invalidState: 'No se puede hacer esto con el pedido en el estado en que está.',
      soldOut: (at) =>
        `Este tamaño está agotado ahora mismo.${at === null ? '' : ` El próximo se libera el ${f.day(at)} a las ${f.clock(at)}.`} Puede que haya libre uno menor.`,
      notOpenYet: (awaited) => `La tienda abre pronto. ${waiting(awaited)}`,
      tooLarge: (hours) =>
        `Esto es más de lo que el nodo Lightning de la tienda puede recibir en un solo pago. ${
          hours > 0
            ? `Ahora mismo son posibles hasta ${f.count(hours, { one: 'hora', many: 'de horas', other: 'horas' })} de este tamaño.`
            : 'Elige un tamaño menor.'
        }`,
      availabilityUnknown:
        'Los servidores de la tienda no responden en este momento, así que no se puede vender nada. Vuelve a intentarlo más tarde.',
      invalid: (message) => `La tienda no acepta esto: ${message}.`,
      invalidParameter: (parameter, choice) => `La tienda no acepta ${parameter}.${choice}`,
      oneOf: (choices) => ` Elige uno de estos valores: ${choices.join(', ')}.`,
      between: (min, max) => ` Elige entre ${f.whole(min)} y ${f.whole(max)}.`,
      parameters: {
        node_count: 'este número de nodos',
        hours: 'este número de horas',
        sku: 'este producto',
        coin_distribution: 'este reparto de monedas',
        channel_setup: 'esta disposición de canales',
        names: 'estos nombres',
        title: 'este título',
        node: 'este nodo',
        sat: 'este importe',
        blocks: 'este número de bloques',
        setup: 'esta disposición de canales',
      },
      rules: {
        names: ' Pon uno para cada nodo, de 1 a 32 letras, o ninguno.',
        title: ' Tiene de 1 a 80 letras en una sola línea.',
      },
      starting: `La tienda está arrancando. ${again}`,
      internal: `La tienda no puede hacer esto ahora mismo. ${again}`,
      desk: {
        busy: (seconds) =>
          `El panel está en uso, o se acaba de usar muchas veces. Vuelve a intentarlo ${after(seconds)}.`,
        tooOld: 'Esta red se creó antes de que hubiera panel. La próxima que pidas lo tendrá.',
        noAnswer:
          'La red no respondió. Puede que lo haya hecho de todos modos: míralo antes de volver a intentarlo.',
        refused: {
          not_running: 'La red está arrancando. Vuelve a intentarlo en un minuto.',
          busy: 'La red todavía está ocupada con otra acción. Vuelve a intentarlo en un minuto.',
          invalid: 'Esta red no conoce esta acción. La próxima que pidas sí.',
          request_reused: 'Esto ya se pidió antes de otra forma. Carga la página de nuevo.',
          node_off: 'Este nodo está apagado. Enciéndelo primero.',
          no_answer: 'Este nodo no responde. Se reinicia por sí solo; vuelve a intentarlo en un minuto.',
          no_coins:
            'Al minero de la red no le quedan suficientes monedas. Elige un importe menor o mina algunos bloques.',
          late: 'Tardó demasiado y puede que una parte esté hecha. Hazlo otra vez: continúa donde se detuvo.',
          failed:
            'La red no pudo hacerlo. Vuelve a intentarlo; si sigue así, pregunta al operador de la tienda.',
        },
      },
    },
  };
};
