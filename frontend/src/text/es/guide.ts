/** Spanish: the lesson plans. A test compares the words in “quotes” with the wallet's and the wall's. */
import type { Plan } from '../../guide/plan';
import type { Format } from '../format';
import type { Texts } from '../languages';

const BEFORE = [
  'Imprime las tarjetas desde la página del pedido, una por persona.',
  'Abre la pantalla en el proyector, y una tarjeta en tu propio teléfono.',
];

const PLANS: readonly Plan[] = [
  {
    id: 'meetup',
    title: 'Primer encuentro',
    minutes: 20,
    audience: 'Para quienes nunca han abierto un canal. De 4 a 16 personas, cada una con un teléfono.',
    before: [...BEFORE, 'Pide la red sin canales: abrirlos es la mitad de la diversión.'],
    steps: [
      {
        minutes: 3,
        title: 'Un nodo por persona',
        say: 'Detrás de tu tarjeta funciona un nodo Lightning que esta tarde es tuyo. Sus monedas no valen nada, así que pulsa lo que quieras. Busca tu nombre en la pantalla.',
        all: [
          'Escanea la tarjeta con la cámara del teléfono y abre el enlace.',
          'Lee arriba el nombre de tu nodo y lo que hay “En la cadena”.',
        ],
        wall: 'Todos los nombres con sus colores, todavía sin líneas. La altura de los bloques va subiendo.',
      },
      {
        minutes: 5,
        title: 'Abrir un canal',
        say: 'Un canal es una cuenta compartida por dos nodos. Abrirlo es una transacción, así que esperamos un bloque. Elige a la persona de tu derecha.',
        all: [
          'Ve a “Canales” y pulsa “Abrir un canal”.',
          'Elige un nombre en “¿Con quién?”, escribe 1000000 en “¿Cuántos sats pones?” y confirma.',
          'Mira los pasos en “De camino a la cadena”.',
        ],
        wall: 'Una línea discontinua entre tú y la otra persona, con sus confirmaciones. Se vuelve continua, toda del color de quien lo abrió: todos los fondos están de ese lado.',
      },
      {
        minutes: 5,
        title: 'Paga a quien tienes al lado',
        say: 'Ahora ya no hace falta ningún bloque. Pide dinero; la otra persona escanea tu código. Quien abrió el canal puede pagar, quien no, solo puede cobrar: mira la línea.',
        all: [
          'Quien cobra: “Recibir”, un importe y una palabra, “Crear una factura”.',
          'Quien paga: “Pagar”, “Escanear un código”, y confirma.',
          'Devuelve una parte.',
        ],
        wall: 'Una chispa recorre la línea, la lista dice quién pagó a quién y la marca de la línea se mueve.',
      },
      {
        minutes: 4,
        title: 'Paga a alguien del otro lado de la sala',
        say: 'Con la mayoría de la gente de aquí no tienes ningún canal, y aun así puedes pagarle: otros lo reenvían a cambio de una comisión.',
        all: [
          'Pulsa “Pagar” y elige a alguien que esté lejos en “O paga a alguien de la sala”.',
          'Lee “La ruta prevista” y “Comisión” antes de confirmar.',
        ],
        wall: 'La chispa pasa por varias líneas. La lista dice a través de quién, y la clasificación cuenta quién ha enrutado.',
      },
      {
        minutes: 3,
        title: 'Qué acaba de pasar',
        say: 'Has manejado un nodo, has abierto un canal y has cobrado en un segundo, y nadie de en medio pudo quedarse el dinero. Con monedas reales el software es el mismo.',
        all: [
          'Abre “Misiones” y mira cuáles has cumplido.',
          'Prueba las que te quedan: los nodos siguen en marcha.',
        ],
        wall: 'El aplauso es para quien va primero en “Más pagos enrutados”.',
      },
    ],
  },
  {
    id: 'class',
    title: 'Clase para desarrolladores',
    minutes: 45,
    audience: 'Para quienes escriben software. De 8 a 32 personas, con un teléfono o un portátil.',
    before: [...BEFORE, 'Pide la red con los canales en círculo, para que haya rutas desde el principio.'],
    steps: [
      {
        minutes: 5,
        title: 'Un nodo y su interfaz',
        say: 'Esta página es un cliente de Core Lightning. Cada botón es una llamada a su RPC, por una conexión cifrada entre tu navegador y tu nodo, permitida por la runa de tu tarjeta.',
        all: [
          'Escanea la tarjeta y abre “Más” y “Consola”.',
          'Ejecuta getinfo, después listpeerchannels y después help.',
        ],
        wall: 'Un círculo de nodos. Cada línea es toda de un color: los fondos están donde se abrió el canal.',
      },
      {
        minutes: 8,
        title: 'Facturas y rutas',
        say: 'Una factura es un hash y un importe. Decodifica una antes de pagarla y pide la ruta: verás que el importe de cada salto aumenta con la comisión del siguiente.',
        all: [
          'En parejas, de un lado al otro del círculo: uno crea una factura en “Recibir”.',
          'El otro ejecuta decode con ella en la “Consola”.',
          'Después la paga en “Pagar” y compara “La ruta que tomó” con la pantalla.',
        ],
        wall: 'Cada pago con sus saltos, en el orden en que se bloquearon los HTLC. La lista muestra las comisiones.',
      },
      {
        minutes: 8,
        title: 'El fallo',
        say: 'Nadie conoce el saldo de los canales de los demás. Quien envía prueba, y aprende de los errores. Vamos a vaciar un canal y a ver qué dice el siguiente pago.',
        all: [
          'Una persona paga a quien tiene al lado casi todo lo que muestra “Puedes enviar”.',
          'Otra persona paga a través de ese canal, y falla.',
          'Lee “Dónde” y “Por qué”, y abre “Lo que dice el nodo”: es un error de BOLT 4 con cifrado de cebolla.',
        ],
        wall: 'Una chispa roja que termina en el nodo que tenía muy pocos fondos, y una frase que lo explica.',
      },
      {
        minutes: 8,
        title: 'Liquidez',
        say: 'Un pago a ti mismo cuesta una comisión y no cambia lo que tienes, solo dónde está. Los nodos de enrutamiento viven de hacer esto bien.',
        all: [
          'Abre un segundo canal con “Abrir un canal”, hacia el otro lado del círculo.',
          'Cuando se pueda usar, pulsa “Mover liquidez” en “Canales”: sale por uno y vuelve por el otro.',
        ],
        wall: 'Una chispa que sale de un nodo y vuelve a él por el otro lado. Las marcas de las líneas se mueven hacia el centro, y cambia “Mejor equilibrado”.',
      },
      {
        minutes: 8,
        title: 'Comisiones',
        say: 'Una comisión tiene una base y una proporción. Cambia la tuya: el gossip tarda un momento, y hasta entonces los pagos fallan con fee_insufficient o pagan la anterior.',
        all: [
          'Abre un canal en “Canales” y mira “Lo que cobras por reenviar”.',
          'Cambia “Por cada pago (msat)” y pulsa “Fijar comisiones”.',
          'Deja que alguien pague a través de ti y busca “Ganado por reenviar” en “Historial”.',
        ],
        wall: 'Las comisiones de la lista suben, y los pagos se desvían hacia rutas más baratas.',
      },
      {
        minutes: 8,
        title: 'Cerrar y liquidar',
        say: 'Un canal termina de común acuerdo o por la fuerza. Por la fuerza, tu parte queda bloqueada unos bloques, para que el otro lado pueda castigar un estado antiguo.',
        all: [
          'Media sala: “Cerrar este canal”, “Cerrar de común acuerdo”.',
          'La otra media: “Cerrar este canal”, “Forzar el cierre”.',
          'Sigue “El final del canal” hasta que las monedas vuelvan a estar “En la cadena”.',
        ],
        wall: 'Las líneas se vuelven rojas y desaparecen con el siguiente bloque. La lista dice quién cerró qué, y cómo.',
      },
    ],
  },
  {
    id: 'game',
    title: 'Juego de enrutamiento',
    minutes: 90,
    audience: 'Para quienes conocen lo básico y disfrutan ganando. De 8 a 64 personas, solas o en equipos.',
    before: [
      ...BEFORE,
      'Pide la red sin canales: cada nodo tiene las mismas monedas.',
      'Escribe las reglas en una pizarra: gana quien haya cobrado más comisiones cuando suene la campana; segundo premio para el nodo mejor equilibrado.',
    ],
    steps: [
      {
        minutes: 10,
        title: 'Las reglas',
        say: 'Tu nodo es un negocio de enrutamiento. Ganas cuando otros pagan a través de ti. En cada ronda hay que pagar a diez personas distintas. Se permiten las alianzas, y también romperlas.',
        all: [
          'Escanea la tarjeta y mira tus monedas.',
          'Date una vuelta por la sala y acuerda con quién te conectas.',
        ],
        wall: 'Todos los nombres, ninguna línea.',
      },
      {
        minutes: 15,
        title: 'Ronda 1: construir',
        say: 'Tienes quince minutos para construir. Un canal con pocos fondos falla; muchos pequeños cuestan una comisión cada uno, y los fondos mal colocados no ganan nada.',
        all: [
          'Pulsa “Abrir un canal” tantas veces como te parezca sensato.',
          'Guarda algunas monedas “En la cadena” para más tarde.',
        ],
        wall: 'Crecen líneas entre los nombres; las más gruesas llevan más. “Mejor conectado” muestra quién construye más.',
      },
      {
        minutes: 15,
        title: 'Ronda 2: comerciar',
        say: 'Ahora toca pagar. Diez personas distintas, al menos 10.000 sats a cada una. Fíjate por dónde van tus pagos y quién vive de ellos.',
        all: [
          'Elige diez nombres en “O paga a alguien de la sala”, uno tras otro.',
          'Mira lo que va entrando en “Reenviados” dentro de “Historial”.',
        ],
        wall: 'Chispas por todas partes. “Más pagos enrutados” cuenta pagos y comisiones.',
      },
      {
        minutes: 10,
        title: 'Hacer balance',
        say: '¿Quién ha ganado, y por qué? Mira las líneas: las que son todas de un color están agotadas. ¿Dónde fallaría ahora un pago?',
        all: ['Mira “Puedes enviar” y “Puedes recibir” en cada canal.', 'Cambia tu plan.'],
        wall: 'Las líneas de un solo color están vacías por un lado: los fallos de la próxima ronda.',
      },
      {
        minutes: 15,
        title: 'Ronda 3: precios',
        say: 'A partir de ahora fijas tus propias comisiones. Demasiado altas, y te rodean; demasiado bajas, y te vacían.',
        all: [
          'Abre tus canales, cambia “Por millón (ppm)” y pulsa “Fijar comisiones”.',
          'Paga otra vez a diez personas y elige rutas baratas según lo que diga “Comisión”.',
          'Usa “Mover liquidez” donde un lado esté vacío.',
        ],
        wall: 'Mira cómo los pagos se apartan de los nodos caros, y la lista de fallos donde nadie movió su liquidez.',
      },
      {
        minutes: 15,
        title: 'Ronda 4: tormenta',
        say: 'Algunos nodos se van a ir. A quien le toque en el sorteo cierra todos sus canales; los demás tienen que encontrar rutas nuevas, y pueden abrir canales nuevos.',
        all: [
          'A quien le toque: “Cerrar este canal” en cada uno, “Cerrar de común acuerdo” o “Forzar el cierre”.',
          'Toda la sala: paga otra vez a diez personas.',
        ],
        wall: 'Líneas rojas y después huecos. Los pagos fallan, encuentran rutas nuevas y aparecen líneas nuevas.',
      },
      {
        minutes: 10,
        title: 'La campana',
        say: 'Se acabó. La pantalla tiene a quienes han ganado; ahora cuentan cómo lo hicieron, y los demás, qué harían con monedas reales.',
        all: ['Lee “Ganado por reenviar” en “Historial” y dilo en voz alta.', 'Mira “Misiones”.'],
        wall: 'La clasificación: más pagos enrutados, mejor conectado, mejor equilibrado.',
      },
    ],
  },
];

export const guide = (f: Format): Texts['guide'] => ({
  plans: PLANS,
  title: 'Planes de clase',
  lead: 'Qué decir, qué hace la sala y qué muestra entonces la pantalla. Las palabras entre comillas son las de los botones que hay detrás de las tarjetas.',
  all: 'Todos los planes de clase',
  minutes: f.minutes,
  before: 'Antes de que llegue la gente',
  say: 'Di',
  do: 'Toda la sala',
  wall: 'En la pantalla',
  at: (from, to) => `${f.whole(from)} a ${f.whole(to)} min`,
  print: 'Imprimir este plan',
  read: (title) => `Leer “${title}”`,
  order: 'Pedir una red',
});
