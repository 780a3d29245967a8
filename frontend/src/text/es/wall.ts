/** Spanish: the wall of an order. */
import type { Event } from '../../wall/data/happenings';
import { between } from '../../wall/data/route';
import type { Format, Phrase } from '../format';
import type { Texts } from '../languages';

/** A sentence: words, and nodes that are shown by name and colour. */
type Sentence = Phrase<{ readonly node: string }>;

export const wall = (f: Format): Texts['wall'] => {
  const amount = (msat: number) => {
    const sats = f.sat(msat);
    return `${sats} ${sats === '1' ? 'sat' : 'sats'}`;
  };
  const channelCount = (n: number) => f.count(n, { one: 'canal', many: 'de canales', other: 'canales' });
  const row = (nodeIds: readonly string[], nameOf: (nodeId: string) => string) =>
    f.listed(
      nodeIds.map((node) => ({ node })),
      ({ node }) => nameOf(node),
    );

  /** Why a node did not pass a payment on, by BOLT 4's name. */
  function reason(name: string | null, at: string, towards: string | null): Sentence {
    const onward = towards === null ? [] : [' hacia ', { node: towards }];
    switch (name) {
      case 'WIRE_TEMPORARY_CHANNEL_FAILURE':
        return [{ node: at }, ' tiene muy pocos fondos en el canal', ...onward];
      case 'WIRE_FEE_INSUFFICIENT':
        return [{ node: at }, ' pide una comisión más alta'];
      case 'WIRE_UNKNOWN_NEXT_PEER':
        return towards === null
          ? [{ node: at }, ' no puede llegar al siguiente nodo']
          : [{ node: at }, ' no puede llegar a ', { node: towards }];
      case 'WIRE_AMOUNT_BELOW_MINIMUM':
        return [{ node: at }, ' no reenvía importes tan pequeños'];
      case 'WIRE_CHANNEL_DISABLED':
        return [{ node: at }, ' ha desactivado el canal', ...onward];
      default:
        return [{ node: at }, ' no pudo reenviarlo', ...onward];
    }
  }

  function sentence(event: Event, nameOf: (nodeId: string) => string): Sentence {
    switch (event.kind) {
      case 'paid': {
        const { from, to, msat, feeMsat, steps } = event;
        const over = between(steps, from, to);
        const through = over.length === 0 ? [] : [' a través de ', ...row(over, nameOf)];
        const fee = over.length === 0 && feeMsat === 0 ? [] : [`, comisión: ${amount(feeMsat)}`];
        if (to === from) return [{ node: from }, ` movió ${amount(msat)}`, ...through, ...fee];
        const whom = to === null ? [] : [' a ', { node: to }];
        return [{ node: from }, ` pagó ${amount(msat)}`, ...whom, ...through, ...fee];
      }
      case 'failed': {
        const { from, to, msat, stoppedAt, towards, steps } = event;
        const what: Sentence =
          to === null || to === from
            ? [{ node: from }, ` no pudo pagar ${amount(msat)}`]
            : [{ node: from }, ` no pudo pagar ${amount(msat)} a `, { node: to }];
        if (steps.length === 0) return what;
        if (stoppedAt === to) return [...what, ': ', { node: to }, ' lo rechazó'];
        return [...what, ': ', ...reason(event.reason, stoppedAt, towards ?? to)];
      }
      case 'block':
        return [`Bloque ${f.whole(event.height)}`];
      case 'opening':
      case 'opened':
      case 'closing':
      case 'closed': {
        const { lane } = event;
        const [first, second] = [lane.opener, lane.opener === lane.a ? lane.b : lane.a];
        if (event.kind === 'opening')
          return [{ node: first }, ' abre un canal con ', { node: second }, `, ${amount(lane.totalMsat)}`];
        if (event.kind === 'opened')
          return [
            'Ya se puede usar el canal de ',
            { node: first },
            ' con ',
            { node: second },
            `, ${amount(lane.totalMsat)}`,
          ];
        if (event.kind === 'closed')
          return ['El canal entre ', ...row([first, second], nameOf), ' está cerrado'];
        const closer = lane.closer ?? first;
        return [
          { node: closer },
          lane.isForced ? ' cierra por la fuerza el canal con ' : ' cierra el canal con ',
          { node: closer === lane.a ? lane.b : lane.a },
        ];
      }
      case 'away':
        return [{ node: event.nodeId }, ' no responde'];
      case 'back':
        return [{ node: event.nodeId }, ' ha vuelto'];
    }
  }

  return {
    amount,
    sentence,
    title: 'La pantalla',
    back: 'Volver al pedido',
    fullscreen: 'Pantalla completa',
    leaveFullscreen: 'Salir de pantalla completa',
    theme: (isDark) => (isDark ? 'Colores claros' : 'Colores oscuros'),
    block: 'Bloque',
    timeLeft: (left) => `Quedan: ${left}`,
    picture: (nodes, channels) =>
      `Imagen de la red: ${f.list([f.count(nodes, { one: 'nodo', many: 'de nodos', other: 'nodos' }), channelCount(channels)])}`,
    nodes: 'Nodos',
    nodeLine: (name, channels, isHere) =>
      `${name}: ${channelCount(channels)}${isHere ? '' : ', no responde'}`,
    events: 'Lo que acaba de pasar',
    noEvents: 'Todavía nada. Abre un canal o paga a alguien y aparecerá aquí.',
    standings: 'Clasificación',
    routed: 'Más pagos enrutados',
    routedValue: (count, feesMsat) =>
      `${f.count(count, { one: 'pago', many: 'de pagos', other: 'pagos' })}, ${amount(feesMsat)}`,
    connected: 'Mejor conectado',
    connectedValue: channelCount,
    balanced: 'Mejor equilibrado',
    balancedValue: f.percent,
    nobody: 'Nadie todavía',
    connecting: (here, all) => `Conectando con los nodos: ${f.whole(here)} de ${f.whole(all)}`,
    away: (names, more) =>
      `No hay respuesta de ${f.list(more > 0 ? [...names, `${f.whole(more)} más`] : names)}. La pantalla sigue intentándolo.`,
    allAway: 'Ningún nodo responde en este momento. La pantalla sigue intentándolo.',
    refused: (name) => `${name} ya no acepta su tarjeta.`,
    ended: 'Se acabó el tiempo de esta red. Gracias por jugar.',
    replaced: 'Esta red se está sustituyendo. La pantalla continúa con la nueva.',
    notReady: 'Esta red todavía no está lista. La pantalla empieza por sí sola cuando lo esté.',
    notThere: 'No existe ese pedido, o ya no tiene ninguna red.',
    asking: 'Preguntando a la tienda por los nodos…',
    mixed:
      'Esta página se cargó por https y a los nodos se llega sin cifrado, algo que los navegadores no permiten.',
  };
};
