# Waits until bitcoind has downloaded the chain:   bitcoind-synchronised DATABASE BITCOIN_DATADIR
#
# Only where Core Lightning has no DATABASE yet: a new node that starts during the initial block download reads the chain from its
# first block into a database that is kept for ever, and cannot go on once bitcoind has pruned the block that it wants next. A node
# that has a database starts at once, and catches up together with bitcoind.
#
# LIGHTNING_NETWORK is the network, as lightningd names it. On regtest there is nothing to download.
database=$1
datadir=$2
# Pauses between two questions and between two lines in the journal, in seconds.
pause=${SYNC_PAUSE:-5}
report_every=${SYNC_REPORT_EVERY:-60}

if [[ $LIGHTNING_NETWORK == regtest ]]; then
  echo "regtest has no chain to download"
  exit 0
fi
if [[ -e $database ]]; then
  echo "$database exists: Core Lightning catches up by itself"
  exit 0
fi
chain=$LIGHTNING_NETWORK
[[ $chain != bitcoin ]] || chain=main

# Sets `state` (ready, loading or silent) and `line`, the text for the journal.
look() {
  local info
  # bitcoind answers nothing while it starts, and sometimes nothing for a minute while it writes its cache.
  if ! info=$(bitcoin-cli -datadir="$datadir" -chain="$chain" -rpcclienttimeout=60 getblockchaininfo 2>&1); then
    state=silent
    line="bitcoind does not answer yet: $(head -n 1 <<<"${info:-no message}")"
    return
  fi
  line=$(jq --raw-output '"\(.verificationprogress * 1000 | floor / 10) % of the chain, block \(.blocks) of \(.headers)"' <<<"$info")
  state=loading
  if [[ $(jq .initialblockdownload <<<"$info") == false ]]; then
    state=ready
  fi
}

look
if [[ $state != ready ]]; then
  echo "waiting for the initial block download, because $database does not exist yet; the shop opens afterwards"
fi
next=0
until [[ $state == ready ]]; do
  if [[ $SECONDS -ge $next ]]; then
    echo "$line"
    next=$((SECONDS + report_every))
  fi
  sleep "$pause"
  look
done
echo "bitcoind has synchronised: $line"
