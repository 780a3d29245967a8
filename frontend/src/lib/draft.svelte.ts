/** The order that the visitor is configuring, shared by the pages that show it. */

class OrderDraft {
  /** The product; null until the shop has answered. */
  sku = $state<string | null>(null);
  nodeCount = $state(8);
  hours = $state(4);
  /** Empty for the shop's default. */
  coinDistribution = $state('');
  /** Empty for the shop's default. */
  channelSetup = $state('');
  /** As typed. */
  names = $state('');
  title = $state('');

  /** Selects a product, or a size. */
  choose({ sku, nodeCount }: { readonly sku: string | null; readonly nodeCount: number }): void {
    this.sku = sku;
    this.nodeCount = nodeCount;
  }
}

/** The page's only draft. */
export const draft = new OrderDraft();
