/** What the visitor is putting together, shared by the pages that show it. */

class WishState {
  nodeCount = $state(8);
  hours = $state(4);
  /** Empty: the shop's own choice. */
  coinDistribution = $state('');
  /** Empty: the shop's own choice. */
  channelSetup = $state('');
  /** As typed. */
  names = $state('');
  title = $state('');
}

/** The one wish of the page. */
export const wish = new WishState();
