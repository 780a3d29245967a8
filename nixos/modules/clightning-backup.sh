# Copies what the money of a lost node can be recovered with to the working directory:   clightning-backup DATA_DIR
#
#   NETWORK/hsm_secret         the node's key
#   NETWORK/emergency.recover  the node's channels, for `emergencyrecover`; it changes with every payment
#   NETWORK/channels.json      the node's channels, for `recoverchannel`; it changes when a channel opens or closes
#
# channels.json lacks the secrets with which a peer that cheats is punished. With those, Core Lightning knows the peer's newest
# commitment, looks for each of its outputs, does not know the peer's anchor, and gives up; without them it takes what is its own
# (26.04, ElementsProject/lightning#8880).
data=$1

# put FILE: replaces it atomically by standard input; an old copy is better than a truncated new one.
put() {
  rm -f "$1.new" && cat >"$1.new" && chmod 0400 "$1.new" && sync "$1.new" && mv -f "$1.new" "$1"
}

shopt -s nullglob
# On a new data disk the node is another one. The copies of the lost one may be all that is left of it.
for file in "$data"/*/hsm_secret; do
  network=$(basename "$(dirname "$file")")
  if [[ -e $network/hsm_secret && $(sha256sum <"$network/hsm_secret") != "$(sha256sum <"$file")" ]]; then
    mv "$network" "$network.until-$(date --utc +%Y%m%dT%H%M%SZ)"
    echo "$network: the node has another key than before; the copies of the former one are kept in $network.until-…"
  fi
done
for file in "$data"/*/hsm_secret "$data"/*/emergency.recover; do
  network=$(basename "$(dirname "$file")") name=$(basename "$file")
  mkdir -p "$network"
  put "$network/$name" <"$file"
done

# The fields of `modern_scb_chan` (common/scb_wire.csv), in hex: the last are the length of the TLVs and the TLVs.
# shellcheck disable=SC2016 # jq's variables
strip='
  def number: explode | reduce .[] as $c (0; . * 16 + if $c > 96 then $c - 87 else $c - 48 end);
  def at($from; $bytes): .[2 * $from : 2 * ($from + $bytes)];
  .scb | map(
    # After the id, the channel id and the node id: the address, by its type.
    (at(73; 1) | number) as $type
    | (if $type == 1 then 7 elif $type == 2 then 19 elif $type == 4 then 38 elif $type == 5 then 4 + (at(74; 1) | number)
       else error("an address of the unknown type \($type)") end) as $address
    # Then the outpoint, the amount, and the channel type with its length.
    | (73 + $address + 36 + 8) as $features
    | ($features + 2 + (at($features; 2) | number)) as $tlvs
    | if length < 2 * ($tlvs + 4) then error("too short") else .[: 2 * $tlvs] + "00000000" end
  )'

ask() { timeout 30 lightning-cli "$@"; }
if ! network=$(ask getinfo | jq --raw-output --exit-status .network); then
  echo "channels.json stays as it is: the node does not answer" >&2
  exit 0
fi
if ! channels=$(ask staticbackup | jq --compact-output "$strip"); then
  echo "channels.json stays as it is: what the node says of its channels (lightning-cli staticbackup) cannot be read" >&2
  exit 1
fi
if [[ $channels == "[]" && -e $network/channels.json ]]; then
  # A node whose database was lost knows no channels, and still needs the list.
  touch "$network/channels.json"
else
  # Newer than emergency.recover, also where it is the same as before.
  put "$network/channels.json" <<<"$channels"
fi
