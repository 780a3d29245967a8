/** Spanish: the page of an order, with its desk and its cards. */
import type { LeftOut } from '../../lib/desk';
import type { Format } from '../format';
import type { Texts } from '../languages';

export const status = (f: Format): Texts['status'] => {
  const nameOfNode = (number: number) => `Nodo ${number}`;
  const sats = (amount: number) => f.count(amount, { one: 'sat', many: 'de sats', other: 'sats' });

  const WHY: Readonly<Record<LeftOut['why'], string>> = {
    off: 'apagado',
    no_answer: 'no responde',
    no_coins: 'no tiene suficientes monedas; envíale algunas primero',
    failed: 'lo rechazó',
  };

  function leftOut(all: readonly LeftOut[], name: (node: number) => string): string {
    if (all.length === 0) return '';
    return ` Sin incluir: ${all.map(({ node, why }) => `${name(node)} (${WHY[why]})`).join(', ')}.`;
  }

  return {
    title: 'Tu pedido',
    missing: {
      title: 'No existe ese pedido',
      why: 'Comprueba que la dirección esté completa. Los pedidos que nunca se pagaron se olvidan al cabo de un tiempo.',
    },
    asking: 'Preguntando a la tienda…',
    askingNews: 'Preguntando a la tienda si hay novedades…',
    cannotReach: 'No se puede conectar con la tienda en este momento; esta página sigue intentándolo.',
    offline: (at) => `No tienes conexión. Última información: ${f.moment(at)}.`,
    knew: (at) => `Última información: ${f.moment(at)}.`,
    headings: {
      unpaid: 'Esperando el pago',
      lapsed: 'Esta factura ha caducado',
      replacing: 'Tu red se está sustituyendo',
      working: 'Pagado. Tu red está arrancando',
      failed: 'Pagado, pero no entregado',
      refunded: 'No entregado y reembolsado',
      over: 'Se acabó el tiempo de esta red',
      ready: 'Tu red está lista',
    },
    ends: (at, left) => [`Termina: ${f.moment(at)}. `, { mark: `Tiempo restante: ${left}` }],

    unpaidElsewhere:
      'La factura está abierta en el navegador donde se creó. Esta página continúa por sí sola cuando se pague.',
    lapsed: 'No se pagó nada y no se ha perdido nada.',
    orderNew: 'Hacer un pedido nuevo',
    replacingUsable:
      'Se está creando una red nueva. Hasta que esté lista, los enlaces de abajo siguen funcionando como ahora; después esta página muestra otros nuevos, y cada persona necesita uno de ellos.',
    replacingGone:
      'Se está creando una red nueva para el tiempo que queda. Los enlaces de antes ya no funcionan; esta página muestra los nuevos por sí sola.',
    failed: (isCancelled) =>
      isCancelled
        ? 'El operador ha cancelado este pedido. Tu pago está registrado.'
        : 'Tu pago llegó, pero no se pudo arrancar ningún servidor, tras varios intentos.',
    failedNext:
      'El operador ya lo sabe. Si lo pone en marcha de nuevo, esta página muestra tu red por sí sola.',
    failedAsk: (contact) => ['Para un nuevo intento o un reembolso: ', { mark: contact }],
    refunded: (at, isCancelled) =>
      `${isCancelled ? 'El operador ha cancelado este pedido' : 'No se pudo poner en marcha tu red'}. Tu pago se reembolsó${at === null ? '' : ` el ${f.day(at)}`}.`,
    refundedAsk: (contact) => [
      'Si el reembolso no ha llegado, pregunta a ',
      { mark: contact },
      ' e indica el identificador de este pedido.',
    ],
    copyId: 'Copiar el identificador del pedido',
    over: 'Se ha borrado todo lo que contenía: nodos, monedas, canales y claves. Esperamos que haya sido una buena sesión.',
    orderAnother: 'Pedir otra',
    refundedOn: (at) =>
      `Tu pago se reembolsó el ${f.day(at)}. La red sigue en marcha hasta que se acabe su tiempo.`,
    health: {
      network: 'Esta red no responde en este momento.',
      nodes: (names) =>
        names.length === 1
          ? `El nodo ${names[0] ?? ''} no responde en este momento. Los demás sí.`
          : `Los nodos ${f.list(names)} no responden en este momento.`,
      restarts: 'Un nodo que se ha detenido se reinicia por sí solo; tarda un minuto como mucho.',
      since: (at) => `Está así desde: ${f.moment(at)}.`,
      ask: 'Si continúa, pregunta al operador de la tienda, que ya lo sabe, e indica el identificador de este pedido.',
      askContact: (contact) => [
        'Si continúa, pregunta a ',
        { mark: contact },
        ' e indica el identificador de este pedido. El operador ya lo sabe.',
      ],
    },
    replaced: (at) =>
      `Esta red sustituyó a la anterior (${f.moment(at)}). Los enlaces de antes ya no funcionan: dale a cada persona uno nuevo.`,
    nodes: 'Los nodos',
    nodesWhat: 'Cada código abre un nodo, con control total sobre él. Dale uno a cada persona.',
    oldNodes: 'Los nodos que se están sustituyendo',
    remembers: 'Este navegador recuerda el pedido, también sin conexión.',
    forget: 'Olvidarlo aquí',

    progress: {
      label: 'Arranque de tu red',
      value: (percent, message) => `${f.percent(percent)}: ${message}`,
      steps: {
        unpaid: 'Esperando el pago',
        queued: 'Pagado. Eligiendo un servidor',
        'queued-again': 'Pagado. Ningún servidor pudo aceptarlo todavía; volviendo a intentarlo',
        'queued-replacement': 'Eligiendo un servidor para tu red nueva',
        placing: 'Arrancando un servidor solo para ti',
        booting: 'Tu servidor se está iniciando',
        'start-bitcoind': 'Iniciando bitcoind',
        'mature-chain': 'Minando los primeros bloques',
        'start-nodes': 'Iniciando los nodos',
        'fund-nodes': 'Repartiendo monedas a los nodos',
        'open-channels': 'Abriendo los canales',
        provisioned: 'Lista',
        failed: 'No se pudo poner en marcha; el operador ya lo sabe',
      },
      unknown: 'Trabajando en ello',
    },

    keep: {
      title: 'Guarda esta dirección',
      why: 'Es tu recibo y la única llave de tu red: no hay ninguna cuenta con la que recuperarla. Guárdala ahora en tu gestor de contraseñas.',
      name: 'Nombre',
      nameOf: (nodes, day) => `${nodes}, ${day}`,
      credential: 'pedido en lnplay.live',
      address: 'Dirección de esta página',
      save: 'Guardar en el gestor de contraseñas',
      copy: 'Copiar dirección',
      kept: 'La dirección de esta página es la llave de tu pedido.',
      again: 'Guardarla otra vez',
    },

    cards: {
      title: 'Imprimir y compartir',
      paper: 'Papel',
      papers: { a4: 'A4', letter: 'Carta (EE. UU.)', label_4x6: 'Etiquetas, 4 × 6 pulgadas' },
      cardTitle: 'Título',
      logo: 'Logotipo',
      optional: '(opcional)',
      pdf: 'Tarjetas en PDF',
      working: 'Creando el PDF…',
      faults: {
        logo_type: 'El logotipo debe ser una imagen PNG o JPEG.',
        logo_size: 'El logotipo es demasiado grande: 1 MB como máximo.',
        logo_unreadable: 'No se pudo leer el logotipo.',
        unreachable: 'No se puede conectar con el servidor de la tienda. CSV y JSON funcionan sin él.',
        busy: 'El servidor tiene ahora muchas tarjetas que dibujar. Vuelve a intentarlo en un momento.',
        failed: 'No se pudieron crear las tarjetas.',
      },
    },
    card: {
      name: nameOfNode,
      large: (name) => `Mostrar en grande el código de ${name}`,
      code: (name) => `Código QR del enlace de ${name}`,
      largeCode: (name) => `Código QR grande del enlace de ${name}`,
      codeOf: (name) => `Código de ${name}`,
      open: 'Abrir',
      copy: 'Copiar enlace',
      copyOf: (name) => `Copiar enlace de ${name}`,
      close: 'Cerrar',
    },

    room: {
      title: 'Para la sala',
      wall: 'Mostrar la sala en la pantalla',
      wallHint:
        'Una página para el proyector: todos los nodos, sus canales y cada pago a medida que ocurre. Muéstrala a pantalla completa: su dirección da acceso a este pedido.',
      guide: 'Planes de clase',
      guideHint: 'Tres clases de 20, 45 y 90 minutos, para imprimir con las tarjetas.',
    },

    desk: {
      title: 'El panel',
      lead: 'Actúa sobre la red durante la sesión. Puede hacerlo quien tenga la dirección de esta página; los asistentes no.',

      height: (height) => (height === null ? 'La cadena no responde.' : `Bloque ${f.whole(height)}.`),
      pace: (paused) =>
        paused
          ? 'Los bloques están en pausa: solo llega uno cuando tú lo minas.'
          : 'Cuando alguien espera un bloque, llega en segundos; si no, una vez por minuto.',
      look: 'Actualizar',
      asking: 'Preguntando a la red…',

      nodes: 'Nodos',
      state: { running: 'En marcha', off: 'Apagado', down: 'No responde' },
      seen: (height) => `en el bloque ${f.whole(height)}`,
      name: (node) => nameOfNode(node + 1),
      newCard: 'Tarjeta nueva',
      newCardOf: (name) => `Tarjeta nueva para ${name}`,
      sendTo: (name) => `Enviar monedas a ${name}`,
      send: 'Enviar monedas',
      switchOff: 'Apagar',
      switchOffOf: (name) => `Apagar ${name}`,
      switchOn: 'Encender',
      switchOnOf: (name) => `Encender ${name}`,
      nodesWhat:
        'Una tarjeta nueva es para quien perdió la suya: recibe un código nuevo y el anterior deja de funcionar al momento. Apaga un nodo para mostrar qué pasa con los pagos sin él.',

      coins: 'Monedas',
      coinsWhat: 'Monedas nuevas del minero de la red, confirmadas por un bloque que se mina al momento.',
      amount: 'Sats para cada nodo',
      sendAll: 'Enviar a todos los nodos',
      amountRange: (least, most) => `De ${f.whole(least)} a ${f.whole(most)}.`,

      channels: 'Canales',
      channelsWhat:
        'Abre los que faltan y los confirma con seis bloques. Los canales ya abiertos se quedan como están, los haya abierto quien los haya abierto.',
      setups: {
        star: { label: 'Estrella', what: 'Del primer nodo a todos los demás.' },
        circular: { label: 'Círculo', what: 'De cada nodo al siguiente, y del último al primero.' },
        prism: { label: 'Prisma', what: 'Del primer nodo al segundo, y del segundo a todos los demás.' },
      },

      blocks: 'Bloques',
      mine: (count) =>
        count === 1
          ? 'Minar un bloque'
          : `Minar ${f.count(count, { one: 'bloque', many: 'de bloques', other: 'bloques' })}`,
      mineWhat: 'Un bloque confirma lo que está pendiente; seis anuncian un canal a toda la red.',
      pause: 'Pausar los bloques',
      resume: 'Reanudar los bloques',

      question: (action, name) => {
        switch (action.kind) {
          case 'new_card':
            return {
              title: `¿Una tarjeta nueva para ${name}?`,
              what: `El enlace y la tarjeta impresa que ${name} tiene ahora dejan de funcionar al momento, en todos los dispositivos. El nodo, sus monedas y sus canales se conservan.`,
              yes: 'Crear la tarjeta nueva',
            };
          case 'switch_off':
            return {
              title: `¿Apagar ${name}?`,
              what: `Quien maneja ${name} pierde la conexión, y los pagos que pasan por ese nodo fallan hasta que lo enciendas de nuevo.`,
              yes: 'Apagarlo',
            };
          default:
            return null;
        }
      },
      cancel: 'Cancelar',

      working: (action, name) => {
        switch (action.kind) {
          case 'look':
            return 'Preguntando a la red…';
          case 'new_card':
            return `Creando una tarjeta nueva para ${name}…`;
          case 'send_coins':
            return action.node === null
              ? 'Enviando monedas a todos los nodos…'
              : `Enviando monedas a ${name}…`;
          case 'open_channels':
            return 'Abriendo los canales. Con muchos nodos tarda medio minuto…';
          case 'mine':
            return 'Minando…';
          case 'pause_blocks':
            return 'Pausando los bloques…';
          case 'resume_blocks':
            return 'Reanudando los bloques…';
          case 'switch_off':
            return `Apagando ${name}…`;
          case 'switch_on':
            return `Encendiendo ${name}…`;
        }
      },

      done: (did, name) => {
        switch (did.what) {
          case 'looked':
            return '';
          case 'new_card':
            return `${name(did.node)} tiene una tarjeta nueva: su código de abajo es nuevo. Muéstralo o imprime las tarjetas otra vez.`;
          case 'coins_sent': {
            const many = did.nodes.length > 1;
            return `${f.list(did.nodes.map(name))} ${many ? 'recibieron' : 'recibió'} ${sats(did.sat)}${many ? ' cada uno' : ''}.${leftOut(did.leftOut, name)}`;
          }
          case 'channels_opened': {
            const { opened, openAlready } = did;
            const before =
              openAlready === 0
                ? ''
                : openAlready === 1
                  ? ' Ya había uno abierto de esta disposición.'
                  : ` Ya había ${f.whole(openAlready)} abiertos de esta disposición.`;
            const now = opened === 1 ? 'Se abrió un canal.' : `Se abrieron ${f.whole(opened)} canales.`;
            return `${now}${before}${leftOut(did.leftOut, name)}`;
          }
          case 'mined':
            return did.blocks === 1 ? 'Se minó un bloque.' : `Se minaron ${f.whole(did.blocks)} bloques.`;
          case 'blocks_paused':
            return 'Los bloques están en pausa, también después de un reinicio de la red, que mina uno.';
          case 'blocks_resumed':
            return 'Los bloques vuelven a llegar por sí solos.';
          case 'switched_off':
            return `${name(did.node)} está apagado y sigue así hasta que lo enciendas.`;
          case 'switched_on':
            return `${name(did.node)} está otra vez en marcha.`;
        }
      },

      unknown:
        'No hubo respuesta, así que puede que se haya hecho o no. Puedes intentarlo otra vez sin riesgo: no se hace dos veces.',
      again: 'Intentarlo otra vez',
    },
  };
};
