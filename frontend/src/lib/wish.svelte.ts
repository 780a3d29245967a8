/** What the visitor is putting together, shared by the pages that show it. */

class WishState {
  /** The product; null until the shop has said what it sells. */
  sku = $state<string | null>(null);
  nodeCount = $state(8);
  hours = $state(4);
  /** Empty: the shop's own choice. */
  coinDistribution = $state('');
  /** Empty: the shop's own choice. */
  channelSetup = $state('');
  /** As typed. */
  names = $state('');
  title = $state('');

  /** Chooses a product, or a size. */
  choose({ sku, nodeCount }: { readonly sku: string | null; readonly nodeCount: number }): void {
    this.sku = sku;
    this.nodeCount = nodeCount;
  }
}

/** The one wish of the page. */
export const wish = new WishState();
