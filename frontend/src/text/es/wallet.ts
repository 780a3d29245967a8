/** Spanish: the attendee's wallet. The lesson plans quote the names of its buttons and fields. */
import type { LinkFault } from '../../lib/connection-string';
import type { Format } from '../format';
import type { Texts } from '../languages';

/** An amount that comes formatted, with its unit. */
const sats = (amount: string) => `${amount} ${amount === '1' ? 'sat' : 'sats'}`;

const BLOCKS = { one: 'bloque', many: 'de bloques', other: 'bloques' };

export const wallet = (f: Format): Texts['wallet'] => ({
  sat: 'sats',
  close: 'Cerrar',
  back: 'Atrás',
  cancel: 'Cancelar',
  again: 'Reintentar',
  copy: 'Copiar',
  done: 'Listo',
  you: 'tú',
  youAfter: 'ti',

  nav: {
    label: 'Billetera',
    home: 'Inicio',
    channels: 'Canales',
    history: 'Historial',
    missions: 'Misiones',
    more: 'Más',
  },

  link: {
    none: 'Esta página muestra un nodo, y el enlace que se abrió no dice cuál. Escanea una tarjeta para llegar aquí.',
    title: 'Este enlace no lleva a ningún nodo',
    mixed:
      'A este nodo solo se llega sin cifrado, algo que los navegadores no permiten en una página segura. Pide a quien te dio la tarjeta un enlace que empiece por http:, o uno nuevo.',
    unreadable: 'No se puede leer este enlace.',
    damaged: (fault, type) => {
      const what = {
        node: 'no nombra ningún nodo',
        place: 'no dice dónde está el nodo',
        type: `su tipo es “${type}”`,
        scheme: 'no dice cómo se llega al nodo',
        path: 'su ruta no es válida',
        rune: 'falta la clave',
      } satisfies Record<LinkFault, string>;
      return `Este enlace está incompleto o dañado: ${what[fault]}. Escanea la tarjeta otra vez o copia el enlace entero.`;
    },
    what: '¿Qué es esto?',
    cards: 'Tarjetas abiertas en este dispositivo',
    forget: (name) => `Olvidar ${name}`,
    yourNode: 'Tu nodo Lightning',
    fallbackName: 'Tu nodo',
  },

  state: {
    connected: 'Conectado',
    connecting: 'Conectando…',
    offline: 'Sin conexión',
    first: (name) => `Conectando con ${name}…`,
    refused: 'El nodo no acepta la clave de este enlace. Pide una tarjeta nueva.',
    odd: 'El nodo responde, pero no como debería; puede que esté arrancando. Volviendo a intentarlo.',
    stranger:
      'Alguien responde en esta dirección, pero no es el nodo de tu tarjeta. Puede que la red haya terminado y su lugar lo ocupe otra. No se envió nada.',
    never: 'El nodo todavía no responde. Volviendo a intentarlo.',
    stays:
      'Si sigue así: puede que se haya acabado el tiempo de la red, o que la conexión de este teléfono no te deje pasar. Pregunta a quien te dio la tarjeta.',
    since: (time) =>
      `El nodo no responde (última respuesta: ${time}). Lo que ves es de ese momento; volviendo a intentarlo.`,
  },

  news: {
    received: (amount, what) =>
      what === '' ? `Recibiste ${sats(amount)}` : `Recibiste ${sats(amount)}: ${what}`,
    mission: (title) => `Misión cumplida: ${title}`,
    dismiss: 'Descartar',
  },

  home: {
    inChannels: 'En canales',
    canSend: 'Puedes enviar',
    canReceive: 'Puedes recibir',
    onChain: 'En la cadena',
    nextBlock: (amount) => `y ${sats(amount)} en el próximo bloque`,
    pay: 'Pagar',
    receive: 'Recibir',
    block: (height) => `Bloque ${height}`,
    at: (network, height) => `${network}, bloque ${height}`,
    recent: 'Lo que acaba de pasar',
    all: 'Verlo todo',
    nothing: 'Todavía nada. Aquí aparece todo lo que se paga, se recibe o se reenvía.',
    next: 'Tu próxima misión',
    underWay: (n) => `${f.count(n, { one: 'pago', many: 'de pagos', other: 'pagos' })} en camino`,
    firstChannel: 'Abre tu primer canal',
    liquidity: {
      'no-channels':
        'Todavía no hay canales. Un canal con alguno de los demás es la forma en que este nodo paga y cobra.',
      opening: 'Hay un canal en camino. Se puede usar cuando su transacción esté en un bloque.',
      'peers-away': 'Tus canales están abiertos, pero los nodos del otro extremo no responden.',
      'cannot-receive':
        'Puedes enviar, pero no recibir: todos los fondos de tus canales están de tu lado. Gasta una parte o deja que alguien abra un canal contigo.',
      'cannot-send':
        'Puedes recibir, pero no enviar: todos los fondos de tus canales están del lado de los demás. Recibe una parte o abre tú un canal.',
      'both-ways': 'Puedes enviar y recibir.',
    },
  },

  pay: {
    asks: 'Quién pide qué',
    title: 'Pagar',
    how: '¿A quién o qué quieres pagar?',
    scan: 'Escanear un código',
    paste: 'Pegar',
    input: 'Factura, oferta o id de nodo',
    inputHint: 'Lo que alguien te envió, por ejemplo lnbcrt… o lno1…',
    or: 'O paga a alguien de la sala',
    go: 'Continuar',
    reading: 'Leyendo…',
    bad: {
      empty: 'No se pegó nada.',
      unknown:
        'Esto no es una factura, una oferta ni un id de nodo. Cópialo entero, de la primera letra a la última.',
      card: 'Esto es la tarjeta de un nodo, no algo que se pueda pagar. Pide una factura: su código se muestra en Recibir.',
      mainnet:
        'Esto es para bitcoin de verdad. Las monedas de aquí son de práctica y solo sirven en esta sala.',
      'invoice-request': 'Con esto alguien quiere pagar, no cobrar. Pide una factura o una oferta.',
      invalid: 'El nodo no puede leer esto. Puede que falte una parte o que haya una letra mal.',
      currency: 'Esto es para otra red o moneda; los nodos de esta sala no pueden pagarlo.',
      kind: 'El nodo puede leer esto, pero no es algo que se pueda pagar.',
    },
    clipboard: 'Tu navegador no deja que esta página lea lo copiado. Pégalo en el campo.',
    to: 'Para',
    for: 'Concepto',
    amount: 'Importe',
    howMuch: '¿Cuánto?',
    atMost: (amount) => `Puedes enviar ${sats(amount)} como máximo`,
    expired: 'Esta factura ha caducado. Pide una nueva.',
    expires: (time) => `Caduca: ${time}`,
    own: 'Esta factura es tuya. Para mover fondos entre tus canales, usa “Mover liquidez” en Canales.',
    route: 'La ruta prevista',
    planning: 'Buscando una ruta…',
    noPlan:
      'Tu nodo todavía no ve ninguna ruta hasta allí. Puedes intentarlo igualmente: quizá la factura traiga una pista, y si falla sabrás por qué.',
    fee: 'Comisión',
    about: (amount) => `unos ${sats(amount)}`,
    free: 'ninguna',
    parts: (n) => `en ${f.whole(n)} partes`,
    send: (amount) => `Pagar ${sats(amount)}`,
    sending: 'En camino…',
    patience: 'Tarda uno o dos segundos, y hasta un minuto si hay que encontrar la ruta probando.',
    fetching: 'Pidiendo una factura…',
    unknown:
      'No llegó respuesta, así que nadie sabe todavía si se pagó. En cuanto se pueda, se le pregunta a tu nodo; no vuelvas a pagar antes.',
    paid: 'Pagado',
    paidTo: (amount, name) => `${sats(amount)} a ${name}`,
    feePaid: 'Comisión pagada',
    took: 'La ruta que tomó',
    planned: 'La ruta que estaba prevista; puede que haya tomado otra',
    failed: 'No se pagó',
    nothingLeft: 'No se te ha cobrado nada.',
    other: 'Pagar otra cosa',
    offerOf: (name) => `Una oferta de ${name}`,
    onchain: 'Esta es una dirección en la cadena',
    onchainGo: 'Enviar monedas en la cadena',
    search: 'Buscar un nombre',
    nobody: 'No hay nadie con ese nombre.',
    alone: 'Tu nodo no conoce a nadie todavía.',
  },

  scan: {
    title: 'Escanear un código',
    hint: 'Coloca el código dentro de la imagen.',
    starting: 'Iniciando la cámara…',
    refused:
      'El navegador no deja que esta página use la cámara. Permítelo en los ajustes del navegador o pega el texto.',
    none: 'No hay ninguna cámara. Pega el texto.',
    insecure: 'Los navegadores solo dejan usar la cámara por https. Pega el texto.',
    picture: 'Elegir una imagen',
    nothing: 'En esta imagen no hay ningún código.',
  },

  receive: {
    showToRoom: 'Mostrarla a la sala',
    hideFromRoom: 'Dejar de mostrarla a la sala',
    roomSees: 'Los demás de la sala la encuentran en Pagar.',
    notShared: 'No se pudo avisar a la sala. Inténtalo de nuevo.',
    title: 'Recibir',
    once: 'Factura',
    onceHint: 'se paga una vez',
    always: 'Oferta',
    alwaysHint: 'se puede pagar una y otra vez',
    amount: 'Importe',
    anyAmount: 'Déjalo vacío para que elija quien paga.',
    description: '¿Por qué concepto?',
    placeholder: 'Café',
    defaultDescription: 'Un pago',
    makeInvoice: 'Crear una factura',
    makeOffer: 'Crear una oferta',
    making: 'Creándola…',
    code: 'Código para escanear',
    invoice: 'Factura',
    offer: 'Oferta',
    anyone: 'cualquier importe',
    waiting: 'Esperando el pago…',
    arrived: (amount) => (amount === '1' ? 'Llegó 1 sat' : `Llegaron ${sats(amount)}`),
    another: 'Crear otra',
    share: 'Compartir',
    tooMuch: (amount) =>
      `En este momento te pueden llegar ${sats(amount)}. Más no cabe en el otro lado de tus canales.`,
    nothing:
      'En este momento no te puede llegar nada: el otro lado de tus canales está vacío. Puedes crear una factura igualmente y ver cómo falla.',
    open: 'Pendientes de cobro',
    offers: 'Tus ofertas',
    expiresAt: (time) => `caduca: ${time}`,
    noAnswer: 'No llegó respuesta. Mira la lista de abajo antes de crear otra.',
  },

  channels: {
    title: 'Canales',
    none: 'Todavía ninguno. Un canal es la forma en que este nodo paga y cobra.',
    open: 'Abrir un canal',
    move: 'Mover liquidez',
    yours: 'tuyo',
    theirs: 'del otro',
    youHave: (amount) => `Tu lado: ${sats(amount)}`,
    theyHave: (amount) => `El otro lado: ${sats(amount)}`,
    phase: { opening: 'abriéndose', open: 'abierto', closing: 'cerrándose', onchain: 'cerrado' },
    away: 'el otro nodo no responde',
    secret: 'no anunciado',
    past: 'Canales cerrados',
    showPast: (n) =>
      f.count(n, { one: 'canal cerrado', many: 'de canales cerrados', other: 'canales cerrados' }),
  },

  open: {
    title: 'Abrir un canal',
    intro:
      'Unas monedas tuyas quedan bloqueadas en una transacción que compartes con otro nodo. Entre los dos pueden moverse después al instante.',
    with: '¿Con quién?',
    amount: '¿Cuántos sats pones?',
    of: (amount) => `de ${sats(amount)} en la cadena`,
    announce: 'Anunciarlo a toda la red',
    announceHint:
      'Así otros pueden enrutar a través de él. Si no lo anuncias, solo los dos nodos saben que existe.',
    go: (amount) => `Abrir con ${sats(amount)}`,
    opening: 'Abriendo…',
    noCoins:
      'No tienes monedas confirmadas en la cadena. Si hay algunas en camino, espera al próximo bloque.',
    noAnswer: 'No llegó respuesta. Mira tus canales antes de abrir otro: puede que ya esté.',
    failed: 'El canal no se abrió',
    sent: (name) => `El canal con ${name} está en camino`,
  },

  channel: {
    with: (name) => `Canal con ${name}`,
    canSend: 'Puedes enviar',
    canReceive: 'Puedes recibir',
    reserve: (amount) =>
      `De cada lado quedan ${sats(amount)} en el canal como garantía contra las trampas; por eso no se puede mover todo.`,
    confirmations: 'De camino a la cadena',
    steps: {
      sent: 'Transacción enviada',
      mined: 'En un bloque: ya pueden usarlo los dos nodos',
      announced: (n, of) => `${f.whole(n)} de ${f.whole(of)} bloques: los demás se enteran de él`,
      known: 'Toda la red lo conoce',
      private: 'No anunciado: solo lo conocen los dos nodos',
    },
    waiting: 'Esperando un bloque…',
    fees: 'Lo que cobras por reenviar',
    base: 'Por cada pago (msat)',
    ppm: 'Por millón (ppm)',
    example: (fee) => `Por un pago de ${f.whole(10_000)} sats son ${sats(fee)}.`,
    setFees: 'Fijar comisiones',
    feesSet: 'Fijadas. Los demás se enteran en más o menos un minuto.',
    feesBad: 'Las dos son números enteros, de 0 en adelante.',
    closeTitle: 'Cerrar este canal',
    closeHint: 'Cada lado recupera sus monedas en la cadena. Hacen falta los dos nodos y un bloque.',
    closeNow: 'Cerrar de común acuerdo',
    forceHint: (blocks) =>
      `Sin el otro nodo: el tuyo publica el último estado que firmaron ambos. Tu parte queda bloqueada durante ${f.count(blocks, BLOCKS)}, para que se pueda castigar una trampa.`,
    forceNow: 'Forzar el cierre',
    sure: '¿Seguro que quieres cerrarlo?',
    closing: 'Cerrando…',
    noAnswer:
      'El otro nodo todavía no ha respondido. El canal se cierra cuando vuelva; también puedes forzar el cierre.',
    failed: 'El canal no se cerró',
    end: 'El final del canal',
    endSteps: {
      asked: 'Se pidió el cierre',
      negotiating: 'Los dos nodos acuerdan la última transacción…',
      agreed: 'Transacción de cierre enviada',
      forced: 'Uno de los lados publicó el último estado',
      mined: (height) => `En el bloque ${height}`,
      locked: (blocks) =>
        blocks > 0
          ? `Tu parte está bloqueada durante ${f.count(blocks, { one: 'bloque más', many: 'de bloques más', other: 'bloques más' })}`
          : 'Recuperando tu parte…',
      settled: (amount, height) => `${sats(amount)} de vuelta en la cadena en el bloque ${height}`,
      nothing: 'Liquidado: nada de lo que había era tuyo',
    },
    transaction: 'Transacción de cierre',
    details: 'Detalles',
    id: 'Id corto del canal',
    funding: 'Transacción de apertura',
    peer: 'Id del otro nodo',
    openedBy: 'Abierto por',
    state: 'Estado',
    theirFees: (base, ppm) => `El otro lado cobra ${base} msat y ${ppm} ppm.`,
  },

  move: {
    title: 'Mover liquidez',
    intro:
      'Págate a ti mismo: los fondos salen por uno de tus canales, dan una vuelta y regresan por otro. Lo que tienes no cambia, pero sí dónde está.',
    from: 'Salir por',
    to: 'Volver por',
    amount: '¿Cuánto?',
    look: 'Buscar una ruta',
    looking: 'Buscando una ruta…',
    none: 'No hay ninguna ruta del uno al otro. Otros canales de la sala tienen que conectar a tus dos vecinos.',
    go: (amount) => `Mover ${sats(amount)}`,
    moving: 'Dando la vuelta…',
    moved: (amount, fee) =>
      amount === '1'
        ? `Se movió 1 sat, con una comisión de ${sats(fee)}`
        : `Se movieron ${sats(amount)}, con una comisión de ${sats(fee)}`,
    two: 'Hacen falta dos canales abiertos: uno con fondos de tu lado y otro con espacio para ellos.',
    same: 'Elige dos canales distintos.',
    room: (amount) => `Entre estos dos se pueden mover como máximo ${sats(amount)}.`,
  },

  failure: {
    title: 'No se pagó',
    where: 'Dónde',
    why: 'Por qué',
    what: 'Qué puedes probar',
    raw: 'Lo que dice el nodo',
    between: (from, to) => `En el canal de ${from} a ${to}`,
    channel: (scid) => `En el canal ${scid}`,
    causes: {
      'already-paid': 'Esta factura ya está pagada. Tu nodo no paga dos veces la misma.',
      expired: 'La factura ha caducado: su destinatario ya no la acepta.',
      'no-channels': 'No tienes ningún canal abierto, así que no hay salida desde tu nodo.',
      'own-balance': 'No hay suficientes fondos de tu lado en tus canales.',
      'unknown-destination':
        'Tu nodo no ha oído hablar de este nodo: no tiene ningún canal anunciado. Tras abrir un canal hacen falta seis bloques y un momento para que toda la red lo sepa.',
      'no-route':
        'Ninguna cadena de canales entre tú y ese nodo puede llevar este importe. Quizá nadie esté conectado con ambos lados, o los canales sean demasiado pequeños.',
      'channel-empty':
        'Un canal del camino no tiene suficientes fondos en el lado que tendría que reenviarlos. Desde fuera nadie puede verlo; se descubre probando.',
      'hop-away': 'Un nodo del camino no responde, o un canal del camino está cerrado.',
      fee: 'Un nodo del camino pide una comisión más alta de la que tu nodo conocía.',
      'too-expensive': 'Las rutas hasta allí cuestan más de lo que tu nodo está dispuesto a pagar.',
      'too-small': 'El importe es menor del que acepta un canal del camino.',
      refused: 'El pago llegó y el destinatario no lo aceptó: quizá ya estaba pagado, o había caducado.',
      late: 'Tardó demasiado y se canceló.',
      'no-answer-to-offer':
        'Nadie respondió por esta oferta. Puede que su nodo no esté, o que todavía no se pueda llegar a él.',
      coins:
        'No hay suficientes monedas confirmadas en la cadena. El cambio de tu última transacción tiene que estar antes en un bloque.',
      'peer-away': 'El otro nodo no responde.',
      'not-allowed': 'Tu tarjeta no lo permite.',
      unknown: 'El nodo da un motivo que esta página no conoce.',
    },
    tips: {
      smaller: 'Prueba con un importe menor.',
      again: 'Inténtalo otra vez: tu nodo ha aprendido del fallo.',
      'wait-blocks': 'Espera unos bloques y vuelve a intentarlo.',
      'wait-peer': 'Espera a que vuelva el otro nodo y vuelve a intentarlo.',
      'open-channel': 'Abre un canal.',
      'open-to-payee': 'Abre tú un canal con el destinatario: así no hay nadie en medio.',
      'payee-receive': 'Pregunta al destinatario cuánto puede recibir: puede que su lado esté lleno.',
      rebalance: 'Mueve liquidez al canal al que le falta, o deja que alguien te pague.',
      'other-way': 'Busca otra ruta: alguien podría abrir un canal que evite este.',
      'new-invoice': 'Pide una factura nueva.',
      'ask-payee': 'Pregunta al destinatario qué pasó de su lado.',
      'new-card': 'Pide una tarjeta nueva.',
    },
    upTo: (amount) => `Ahora mismo parecen posibles hasta ${sats(amount)}.`,
  },

  history: {
    title: 'Historial',
    filter: 'Mostrar',
    all: 'Todo',
    sent: 'Pagados',
    received: 'Recibidos',
    forwarded: 'Reenviados',
    failed: 'Fallidos',
    none: 'Todavía no hay nada de este tipo.',
    earned: 'Ganado por reenviar',
    spent: 'Gastado en comisiones',
    sentTo: (name) => `Pago a ${name}`,
    sentSomebody: 'Pago a alguien',
    triedTo: (name) => `Intento de pago a ${name}`,
    tried: 'Intento de pago',
    receivedOne: 'Pago recibido',
    moved: 'Movido entre tus canales',
    paidSelf: 'Pago a ti mismo',
    forward: (from, to) => `De ${from} a ${to}, a través de ti`,
    forwardOne: 'Reenviado para otro nodo',
    pending: 'en camino',
    failedOne: 'falló',
    fee: (amount) => `comisión: ${amount}`,
    earnedFee: (amount) => `ganado: ${amount}`,
    hash: 'Hash del pago',
    more: 'Mostrar más',
    noReason: 'Tu nodo no dice por qué. Puede que lo haya pagado otra aplicación.',
    forwardReason: (reason) => `No se pudo reenviar: ${reason}`,
  },

  chain: {
    title: 'En la cadena',
    confirmed: 'Confirmado',
    pending: 'Esperando un bloque',
    address: 'Tu dirección',
    newAddress: 'Mostrar una dirección',
    addressHint: 'Las monedas que se envíen aquí llegan con el próximo bloque.',
    send: 'Enviar monedas',
    to: 'Dirección',
    amount: 'Importe',
    everything: 'Todo',
    go: 'Enviar',
    sending: 'Enviando…',
    sent: 'Enviado. Se confirma con el próximo bloque.',
    badAddress: 'Esto no es una dirección de esta red; las de aquí empiezan por bcrt1.',
    badAmount: 'Escribe un importe en sats enteros.',
    coins: 'Monedas',
    none: 'No hay monedas en la cadena.',
    inBlock: (height) => `bloque ${height}`,
    reserved: 'reservada',
    unconfirmed: 'esperando un bloque',
    failed: 'No se envió nada',
    noAnswer: 'No llegó respuesta. Mira tus monedas antes de volver a enviar.',
  },

  missions: {
    title: 'Misiones',
    intro: 'Se marcan según lo que tu nodo hace de verdad.',
    done: (n, of) => `${f.whole(n)} de ${f.whole(of)} cumplidas`,
    more: 'Para quien quiera más',
    accomplished: 'cumplida',
    open: {
      title: 'Abre un canal',
      how: 'y mira cómo se confirma: en Canales, pulsa “Abrir un canal”.',
    },
    receive: {
      title: 'Recibe un pago',
      how: 'Crea una factura en Recibir y deja que otra persona la escanee.',
    },
    route: {
      title: 'Enruta para otros',
      how: 'Ponte en medio: otros dos se pagan a través de tus canales.',
    },
    fail: {
      title: 'Mira cómo falla un pago',
      how: 'Paga más de lo que puede llevar un canal y lee el motivo.',
    },
    move: { title: 'Mueve liquidez', how: 'Págate desde uno de tus canales hacia otro.' },
    settle: {
      title: 'Cierra y liquida',
      how: 'Cierra un canal y mira la cadena hasta que vuelvan las monedas.',
    },
    offer: {
      title: 'Paga una oferta',
      how: 'Pide a otra persona una oferta, el código que se puede pagar una y otra vez.',
    },
    earn: {
      title: 'Cobra por enrutar',
      how: 'Fija una comisión y gana al menos 1 sat con lo que pasa por ti.',
    },
    force: {
      title: 'Sobrevive a un cierre forzado',
      how: 'Cierra sin el otro nodo y espera a que se libere tu parte.',
    },
  },

  more: {
    title: 'Más',
    chain: 'En la cadena',
    chainHint: 'dirección, monedas, envíos',
    console: 'Consola',
    consoleHint: 'todos los métodos que permite tu tarjeta',
    other: 'Abrir en otra billetera',
    otherHint: 'Clams y herramientas que leen sus enlaces',
    about: 'Sobre este nodo',
    others: 'Otros en esta red',
    hasChannel: 'tiene un canal contigo',
    nobody: 'Tu nodo no conoce a nadie todavía.',
    nodeId: 'Id del nodo',
    network: 'Red',
    version: 'Core Lightning',
    copyId: 'Copiar id del nodo',
    copyLink: 'Copiar el enlace de esta página',
    holder: 'Quien tenga este enlace controla este nodo. Funciona hasta que se acabe el tiempo de la red.',
  },

  other: {
    title: 'Abrir en otra billetera',
    intro:
      'Estos enlaces se crean en esta página y no se envía nada. Contienen la clave de tu nodo: quien ofrezca la billetera que abras con ellos puede verla.',
    remote: 'Clams Remote',
    app: 'El primer Clams y herramientas que leen sus enlaces',
    copy: 'Copiar enlace',
    copyOf: (wallet) => `Copiar enlace para ${wallet}`,
    go: 'Abrir',
    tabs: 'Una página que llegó por https solo puede conectar con tu nodo por wss.',
  },

  console: {
    title: 'Consola',
    intro: 'Métodos de Core Lightning que permite tu tarjeta. Valores en orden, o nombre=valor.',
    line: 'Comando',
    run: 'Ejecutar',
    running: 'Ejecutando…',
    help: 'Métodos',
    helpFor: (method) => `Sobre ${method}`,
    bad: 'El nombre de un método y después sus valores. Hay que cerrar comillas y corchetes.',
    notAllowed: (method) => `Tu tarjeta no permite ${method}.`,
    search: 'Buscar un método',
    copyOf: (line) => `Copiar la respuesta a ${line}`,
    noAnswer: 'No llegó respuesta.',
    error: (code) => `Error ${code}`,
    none: 'No hay ninguno con ese nombre.',
  },

  amount: {
    bad: 'Escribe un importe en sats enteros.',
    zero: 'Tiene que ser más que cero.',
    tooMuch: (amount) => `Como máximo ${sats(amount)}.`,
  },

  error: {
    noAnswer: 'El nodo no responde. Vuelve a intentarlo cuando haya conexión.',
    odd: 'El nodo respondió algo que esta página no entiende.',
    notLoaded:
      'No se pudo cargar esta parte. Puede que la tienda se haya actualizado o que no haya conexión: carga la página de nuevo.',
  },
});
