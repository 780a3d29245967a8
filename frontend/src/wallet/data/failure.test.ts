import { describe, expect, it } from 'vitest';
import { readChannels } from './channels';
import { explain, type Trouble } from './failure';
import { peerChannel } from './data.fixtures';

const channels = readChannels({ channels: [peerChannel()] });
const why = (
  code: number,
  message: string,
  { raw = null as unknown, msat = 1_000_000, own = channels } = {},
) => {
  const trouble: Trouble = { code, message, raw };
  return explain(trouble, { msat, channels: own });
};

describe('explain', () => {
  it('finds the channel that had not enough, and in which direction', () => {
    const message =
      "Failed after 1 attempts. We got temporary_channel_failure for the invoice's route hint (137x2x0/0), assuming it can't carry 20000000msat. Then routing failed: We could not find a usable set of paths.  The shortest path is 136x1x0->137x2x0, but 136x1x0/1 layer auto.localchans says max is 0msat";
    expect(why(209, message)).toMatchObject({
      cause: 'channel-empty',
      failure: 'temporary_channel_failure',
      channel: { scid: '137x2x0', direction: 0 },
      isOwnChannel: false,
    });
  });

  it('finds one’s own channel', () => {
    const message =
      'Failed: We could not find a usable set of paths.  The shortest path is 112x2x0->112x1x0, but 112x2x0/1 layer auto.localchans says max is 934693499msat';
    expect(why(205, message, { msat: 980_000_000 })).toMatchObject({
      cause: 'own-balance',
      channel: { scid: '112x2x0', direction: 1 },
      isOwnChannel: true,
    });
  });

  it('reads the reasons that keysend keeps apart', () => {
    const raw = {
      code: 210,
      attempts: [
        { status: 'failed', failreason: 'failed: WIRE_TEMPORARY_CHANNEL_FAILURE (reply from remote)' },
        { status: 'failed', failreason: 'No path found' },
      ],
    };
    expect(why(210, 'Ran out of routes to try after 2 attempts', { raw })).toMatchObject({
      cause: 'channel-empty',
      channel: null,
    });
  });

  it.each([
    [218, 'Already paid this invoice successfully', 'already-paid'],
    [207, 'Invoice expired', 'expired'],
    [203, 'Destination said it doesn’t know invoice', 'refused'],
    [205, 'Failed: Unknown destination node 0231', 'unknown-destination'],
    [205, 'Failed: We could not find a usable set of paths', 'no-route'],
    [301, 'Could not afford 100000sat', 'coins'],
    [402, 'peer closed connection', 'peer-away'],
    [209, 'We got fee_insufficient for 1x2x3/1', 'fee'],
    [209, 'We got unknown_next_peer for 1x2x3/1', 'hop-away'],
    [0, 'never left', 'unknown'],
    [-1, 'something new', 'unknown'],
  ])('%i %s: %s', (code, message, cause) => {
    const explanation = why(code, message);
    expect(explanation.cause).toBe(cause);
    expect(explanation.tips.length).toBeGreaterThan(0);
  });

  it('looks at what one has before it blames the network', () => {
    expect(why(205, 'Failed: Unknown destination node', { own: [] }).cause).toBe('no-channels');
    expect(why(205, 'Failed: no paths', { msat: 990_000_000 }).cause).toBe('own-balance');
    const away = readChannels({ channels: [peerChannel({ peer_connected: false })] });
    expect(why(205, 'Failed: no paths', { own: away }).cause).toBe('peer-away');
  });
});
