# Finds the volume for what outlives the instance, and leaves a link to it:   lnplaylive-state-volume LINK
#
# It is the disk whose file system carries our label. Where there is none, it is the one disk that is blank, which is formatted.
# A disk with anything else on it is never touched. STATE_VOLUME=false: there is none, and there will be no link.
link=$1
label=lnplaylive-state
# How long a volume may take to be attached, in seconds.
patience=${STATE_VOLUME_PATIENCE:-600}

if [[ $STATE_VOLUME != true ]]; then
  echo "state_volume is $STATE_VOLUME: what is kept is kept on the root disk"
  exit 0
fi

fail() {
  echo "state volume: $1" >&2
  exit 1
}

# Whole disks that nothing uses: no partitions, not mounted, not the instance's own, which forget everything when it stops.
unused() {
  lsblk --json --output PATH,TYPE,MODEL,MOUNTPOINTS,RO | jq --raw-output '.blockdevices[]
    | select(.type == "disk" and (.ro | not) and (.children // []) == [])
    | select([.mountpoints[]? | values] == [])
    | select((.model // "") | contains("Instance Storage") | not)
    | select(.path | test("/(zram|fd|ram)[0-9]+$") | not)
    | .path'
}

is_blank() {
  local status=0
  blkid --probe "$1" >/dev/null || status=$?
  # 2: no file system, no partition table, nothing that has a name. And the beginning is zeros, as EBS hands volumes out.
  [[ $status == 2 ]] && cmp --silent --bytes=1048576 "$1" /dev/zero
}

# Sets `ours` and `blank`.
look() {
  ours=() blank=()
  local disk
  while read -r disk; do
    if [[ $(blkid --probe --output value --match-tag LABEL "$disk") == "$label" ]]; then
      ours+=("$disk")
    elif is_blank "$disk"; then
      blank+=("$disk")
    fi
  done < <(unused)
}

found() { [[ ${#ours[@]} -gt 0 || ${#blank[@]} -gt 0 ]]; }

deadline=$((SECONDS + patience))
none="no disk is labelled $label and none is blank; attach a volume, or set host.state_volume = false in the user-data"
look
found || echo "state volume: $none (waiting $patience s for one)" >&2
until found; do
  [[ $SECONDS -lt $deadline ]] || fail "$none"
  sleep 2
  look
done

[[ ${#ours[@]} -le 1 ]] || fail "several disks are labelled $label: ${ours[*]}; detach all but one"
if [[ ${#ours[@]} == 0 ]]; then
  [[ ${#blank[@]} == 1 ]] || fail "several disks are blank: ${blank[*]}; detach all but the one that is to be used"
  echo "formatting ${blank[0]}, which is blank"
  mkfs.ext4 -q -L "$label" "${blank[0]}"
  ours=("${blank[@]}")
fi

volume=${ours[0]}
status=0
# Reads everything only after a crash that the journal does not cover; a clean one costs nothing. 1: errors, and they were corrected.
e2fsck -p "$volume" || status=$?
[[ $status -le 1 ]] || fail "the file system on $volume has errors that want somebody to look at them (e2fsck: $status)"
ln -sf "$volume" "$link"
echo "it is $volume"
