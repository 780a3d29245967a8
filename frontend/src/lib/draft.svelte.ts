/** The order that the visitor is configuring, shared by the pages that show it. */

class OrderDraft {
  nodeCount = $state(8);
  hours = $state(4);
  /** Empty for the shop's default. */
  coinDistribution = $state('');
  /** Empty for the shop's default. */
  channelSetup = $state('');
  /** As typed. */
  names = $state('');
  title = $state('');
}

/** The page's only draft. */
export const draft = new OrderDraft();
