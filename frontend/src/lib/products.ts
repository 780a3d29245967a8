/** The shop's products, from its server or from the node's `lnplaylive-products`. */
import { list, maybeText, maybeTime, number, numberOr, object, text, texts, type Json } from './shape';

/** What the shop waits for before it can be paid. */
export interface Awaited {
  /** Such as `bitcoind_sync`; a newer shop may have others. */
  readonly kind: string;
  /** Blocks so far, where the node synchronises; null if unknown. */
  readonly blocks: number | null;
  /** Blocks in all; null if unknown. */
  readonly headers: number | null;
}

/** One product: a size of environment and its price. Several products may have the same size. */
export interface Product {
  readonly sku: string;
  readonly nodeCount: number;
  readonly msatPerNodeHour: number;
  readonly available: boolean;
  /** Number of environments available now; null if the shop does not say. */
  readonly availableCount: number | null;
  /** Time at which a sold-out product becomes available, in milliseconds since 1970; null if unknown. */
  readonly nextAvailableAt: number | null;
  /** The most hours that the shop can be paid for now; null if there is no limit other than the catalogue's. */
  readonly payableHours: number | null;
}

/** The catalogue. */
export interface Catalogue {
  /** What has to happen before the shop opens; null while it is open. */
  readonly awaited: Awaited | null;
  /** Smallest first. */
  readonly products: readonly Product[];
  readonly minHours: number;
  readonly maxHours: number;
  /** Coin distributions; empty if there is no choice. */
  readonly coinDistributions: readonly string[];
  /** Initial channels; empty if there is no choice. */
  readonly channelSetups: readonly string[];
  readonly contact: string | null;
}

/** Parses what the shop waits for: `not_open_yet` of the products, or the data of the error with that kind. */
export function readAwaited(from: Json): Awaited {
  const counted = (key: string) => {
    const value = numberOr(from, key, -1);
    return value < 0 ? null : value;
  };
  return {
    kind: maybeText(from, 'awaited') ?? 'unknown',
    blocks: counted('blocks'),
    headers: counted('headers'),
  };
}

/** Parses the answer of `lnplaylive-products`. */
export function readCatalogue(value: unknown): Catalogue {
  const from = object(value, 'the catalogue');
  const products = list(from, 'products').map((item): Product => {
    const product = object(item, 'a product');
    const available = product['available'] !== false;
    const counted = numberOr(product, 'available_count', -1);
    const payable = numberOr(product, 'payable_hours', -1);
    return {
      sku: text(product, 'sku'),
      nodeCount: number(product, 'node_count'),
      msatPerNodeHour: number(product, 'msat_per_node_hour'),
      available: available && counted !== 0 && payable !== 0,
      availableCount: counted < 0 ? null : counted,
      nextAvailableAt: maybeTime(product, 'next_available_at'),
      payableHours: payable < 0 ? null : payable,
    };
  });
  return {
    awaited: from['open'] === false ? readAwaited(object(from['not_open_yet'] ?? {}, 'not_open_yet')) : null,
    products: products.sort((a, b) => a.nodeCount - b.nodeCount),
    minHours: Math.max(1, numberOr(from, 'min_hours', 1)),
    maxHours: Math.max(1, numberOr(from, 'max_hours', 504)),
    coinDistributions: texts(from, 'coin_distributions'),
    channelSetups: texts(from, 'channel_setups'),
    contact: maybeText(from, 'contact'),
  };
}

/** Time-out for `/products`, in milliseconds. */
const PATIENCE = 5_000;

/** Fetches the catalogue from the shop's server; null if it does not know, so that the node has to be asked. */
export async function servedCatalogue(): Promise<Catalogue | null> {
  try {
    const response = await fetch('/products', { signal: AbortSignal.timeout(PATIENCE) });
    return response.ok ? readCatalogue(await response.json()) : null;
  } catch {
    return null;
  }
}

/** Sizes to show before the shop has answered. */
const USUAL_SIZES = [8, 16, 32, 64];

/** An entry of the list of sizes. */
export interface Choice {
  /** Null before the shop has answered. */
  readonly sku: string | null;
  readonly nodeCount: number;
  /** The size, and the product's name if another one has the same size. */
  readonly label: string;
}

/** The product's size, and its name if another one has the same size. */
export function productLabel(product: Product, products: readonly Product[]): string {
  const alike = products.filter(({ nodeCount }) => nodeCount === product.nodeCount);
  return alike.length > 1 ? `${product.nodeCount} ${product.sku}` : String(product.nodeCount);
}

/** The choices: the products, or the usual sizes before the shop has answered. */
export function choices(catalogue: Pick<Catalogue, 'products'> | null): readonly Choice[] {
  if (catalogue === null || catalogue.products.length === 0) {
    return USUAL_SIZES.map((nodeCount) => ({ sku: null, nodeCount, label: String(nodeCount) }));
  }
  return catalogue.products.map((product) => ({
    sku: product.sku,
    nodeCount: product.nodeCount,
    label: productLabel(product, catalogue.products),
  }));
}

/** The chosen product; without a name, or with one that is no longer sold, the first of that size. */
export function chosenProduct(
  products: readonly Product[],
  { sku, nodeCount }: Pick<Choice, 'sku' | 'nodeCount'>,
): Product | null {
  const named = products.find((product) => product.sku === sku && product.nodeCount === nodeCount);
  return named ?? products.find((product) => product.nodeCount === nodeCount) ?? null;
}

/** A preset duration. */
export interface Preset {
  readonly name: 'evening' | 'day' | 'weekend' | 'week';
  readonly hours: number;
}

const PRESETS: readonly Preset[] = [
  { name: 'evening', hours: 4 },
  { name: 'day', hours: 24 },
  { name: 'weekend', hours: 48 },
  { name: 'week', hours: 168 },
];

/** The presets within the shop's limits. */
export function presets({ minHours, maxHours }: Pick<Catalogue, 'minHours' | 'maxHours'>): readonly Preset[] {
  return PRESETS.filter(({ hours }) => hours >= minHours && hours <= maxHours);
}

/** Rounds and limits hours that were typed or dragged. */
export function hoursWithin(
  hours: number,
  { minHours, maxHours }: Pick<Catalogue, 'minHours' | 'maxHours'>,
): number {
  return Number.isFinite(hours) ? Math.min(maxHours, Math.max(minHours, Math.round(hours))) : minHours;
}

/**
 * Converts between hours and a slider's position from 0 to 1000. Most environments live for a day or two, so the
 * slider is logarithmic, and it snaps to round hours.
 */
export const slider = {
  position(hours: number, min: number, max: number): number {
    return max <= min ? 0 : Math.round((1000 * Math.log(hours / min)) / Math.log(max / min));
  },
  hours(position: number, min: number, max: number): number {
    const exact = min * (max / min) ** (position / 1000);
    const step = exact < 12 ? 1 : exact < 48 ? 2 : exact < 120 ? 6 : 12;
    return Math.min(max, Math.max(min, Math.round(exact / step) * step));
  },
};

/** A product's availability. `until` is in milliseconds since 1970; `count` is null where there are plenty. */
export type Availability =
  | { readonly kind: 'not_payable' }
  | { readonly kind: 'sold_out'; readonly until: number | null }
  | { readonly kind: 'available'; readonly count: number | null };

/** So few environments are worth telling. */
const FEW = 3;

/** A product's availability. */
export function availability(product: Product): Availability {
  if (product.payableHours === 0) return { kind: 'not_payable' };
  if (!product.available) return { kind: 'sold_out', until: product.nextAvailableAt };
  const { availableCount } = product;
  return {
    kind: 'available',
    count: availableCount !== null && availableCount <= FEW ? availableCount : null,
  };
}
