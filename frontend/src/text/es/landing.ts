/** Spanish: the landing page, without the form. */
import type { Texts } from '../languages';

export const landing = (): Texts['landing'] => ({
  title: 'Una red Lightning para todos los de la sala',
  lead: 'Paga una factura. Un minuto después tienes una tarjeta QR para cada asistente, y detrás de cada tarjeta funciona un nodo Lightning real y con fondos, suyo durante todo el tiempo que reservaste.',
  ticks: [
    'Nada que instalar: basta un teléfono',
    'Sin monedas reales, así que nadie puede perderlas',
    'Sin cuenta, sin correo, sin suscripción',
  ],
  current: 'Volver a tu pedido',
  how: {
    title: 'Tres pasos y la sala es tuya',
    steps: [
      {
        title: 'Elige y paga',
        text: 'Elige cuántos nodos y cuántas horas. Escanea la factura con cualquier billetera Lightning; ese es todo el pedido.',
      },
      {
        title: 'Imprime las tarjetas',
        text: 'Arranca un servidor solo para ti: un nodo Bitcoin, tus nodos Lightning y monedas en cada uno de ellos. Imprime las tarjetas o muestra la página con el proyector.',
      },
      {
        title: 'Escanea y juega',
        text: 'Cada asistente escanea una tarjeta y controla un nodo: en el navegador o en una billetera para Core Lightning.',
      },
    ],
  },
  learn: {
    title: 'Lo que habrán hecho al terminar',
    lessons: [
      {
        title: 'Abrir un canal',
        text: 'y ver cómo se confirma. Se mina un bloque cada pocos segundos, no cada diez minutos.',
      },
      {
        title: 'Recibir un pago',
        text: 'y descubrir por qué importa que un lado del canal esté vacío.',
      },
      { title: 'Enrutar para otra persona', text: 'fijar una comisión y ver cómo llega.' },
      { title: 'Ver cómo falla un pago', text: 'leer el motivo y encontrar la forma de evitarlo.' },
      { title: 'Mover liquidez', text: 'cuando todo se ha acumulado en un extremo de la sala.' },
      { title: 'Cerrar y liquidar', text: 'y mirar después en la cadena qué ha quedado de todo ello.' },
    ],
  },
  card: {
    number: '5 de 16',
    title: 'Noche Lightning, Lisboa',
    code: 'Un código QR de muestra; lleva a esta página',
    caption: 'Una como esta para cada asistente, que imprimes tú, con tu título y tu logotipo',
  },
  rooms: {
    title: 'Pensado para quienes enseñan a otros',
    intro: [
      'Con una imagen de la sala para el proyector, en la que los pagos viajan a medida que ocurren, y ',
      { mark: 'tres planes de clase' },
      ' que te dicen qué decir.',
    ],
    list: [
      {
        title: 'Encuentros',
        text: 'Convierte la charla en una velada en la que cada persona maneja un nodo.',
      },
      {
        title: 'Clases',
        text: 'La misma red para cada estudiante: nueva en cada lección y eliminada al acabar.',
      },
      {
        title: 'Hackatones',
        text: 'Dale a cada equipo nodos con fondos en los primeros cinco minutos, no al segundo día.',
      },
      {
        title: 'Equipos de producto',
        text: 'Prueba una billetera con treinta y dos nodos reales sin tocar dinero de verdad.',
      },
    ],
  },
  prices: {
    title: 'Precios',
    intro:
      'Pagas por nodos y horas, una sola vez y por adelantado. El tiempo de arranque de los servidores corre de nuestra cuenta.',
    asking: 'Preguntando a la tienda los precios de hoy…',
    nodes: 'Nodos',
    each: 'por nodo y hora',
    availability: 'Disponibilidad',
    choose: 'Elegir',
    chooseNodes: (nodes) => ` ${nodes}`,
  },
  questions: {
    title: 'Preguntas',
    list: [
      {
        question: '¿Qué es regtest?',
        answer:
          'El modo de prácticas del propio Bitcoin: el mismo software y las mismas reglas, en una cadena privada cuyos bloques minamos cada pocos segundos. Sus monedas no valen nada, así que nadie tiene que temer pulsar un botón.',
      },
      {
        question: '¿Los asistentes necesitan bitcoin?',
        answer: 'No. Cada nodo viene con monedas de práctica. Solo pagas tú, una vez, por la red.',
      },
      {
        question: '¿Qué billetera necesitan?',
        answer:
          'Ninguna. La tarjeta abre una en el navegador del teléfono: paga, cobra, abre y cierra canales y explica por qué falló un pago. Quien prefiera otra puede abrir el nodo en Clams desde ahí.',
      },
      {
        question: '¿Cómo pago?',
        answer:
          'Con cualquier billetera Lightning, escaneando la factura. No hay cuentas y no preguntamos quién eres. Tu recibo es la dirección de tu pedido: guárdala en tu gestor de contraseñas.',
      },
      {
        question: '¿Qué pasa cuando se acaba el tiempo?',
        answer:
          'Se borra el servidor y todo lo que contiene: nodos, monedas, canales y claves. La página de tu pedido dice cuándo y muestra una cuenta atrás.',
      },
      {
        question: '¿Puedo ampliar el tiempo?',
        answer:
          'No por tu cuenta, así que reserva un poco más de lo que necesites: el reloj empieza cuando se crea el servidor, y se añade lo que tarda en arrancar. Si la velada se alarga, pídeselo al operador, que sí puede.',
      },
      {
        question: '¿Y si algo sale mal?',
        answer:
          'Un servidor que no arranca se sustituye automáticamente, tantas veces como haga falta. Si todo eso falla, el operador se entera al momento y la página de tu pedido dice con quién hablar para un nuevo intento o un reembolso.',
        contact: (contact) => [' También puedes preguntar ahora: ', { mark: contact }, '.'],
      },
      {
        question: '¿Quién puede ver lo que hacemos?',
        answer:
          'Tu red es un servidor propio que nadie más usa y que desaparece cuando se acaba el tiempo. Guardamos el pedido y su pago; ni nombres, ni correos, ni cookies, ni rastreadores. Quien tiene una tarjeta controla su nodo, y quien tiene la dirección del pedido tiene todas las tarjetas, así que trata ambas como si fueran llaves.',
      },
    ],
  },
  last: {
    title: 'Tu próxima sesión podría tener su propia red',
    button: 'Crear una',
  },
});
