# Writes settings that are known only when bitcoind starts:   bitcoind-settings DIRECTORY COOKIE
#
# DIRECTORY/start.conf, which bitcoind includes: the size of its cache. DB_CACHE_MIB is the size in MiB; `auto` is a quarter of the
# machine's memory, from 450 (bitcoind's own default) to 4096. More than that saves little.
# DIRECTORY/bitcoin.conf, by which bitcoin-cli finds the running bitcoind: BITCOIN_CHAIN is its network.
dir=$1
cookie=$2

# Not from /proc/meminfo, which services do not see.
memory_mib() { echo $(($(getconf _PHYS_PAGES) * $(getconf PAGE_SIZE) / 1048576)); }

cache=$DB_CACHE_MIB
if [[ $cache == auto ]]; then
  cache=$(($(memory_mib) / 4))
  ((cache >= 450)) || cache=450
  ((cache <= 4096)) || cache=4096
fi
echo "a cache of $cache MiB"

# put FILE: replaces it atomically
put() { cat >"$1.new" && mv "$1.new" "$1"; }

put "$dir/start.conf" <<<"dbcache=$cache"
printf 'chain=%s\nrpccookiefile=%s\n' "$BITCOIN_CHAIN" "$cookie" | put "$dir/bitcoin.conf"
