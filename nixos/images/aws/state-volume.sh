# Finds the state volume and creates a link to it:   lnplaylive-state-volume LINK
#
# The volume is the disk whose file system has our label. If there is none, it is the only blank disk, which is then formatted. A disk
# with any other content is never touched. With STATE_VOLUME=false there is no volume, and no link is created.
link=$1
label=lnplaylive-state
# How long to wait for a volume to be attached, in seconds.
patience=${STATE_VOLUME_PATIENCE:-600}

if [[ $STATE_VOLUME != true ]]; then
  echo "state_volume is $STATE_VOLUME: state is kept on the root disk"
  exit 0
fi

fail() {
  echo "state volume: $1" >&2
  exit 1
}

# Whole disks that are not in use: not partitioned, not mounted, and not instance store, which loses its data when the instance stops.
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
  # 2: no file system, partition table or other signature. EBS delivers volumes filled with zeros, so the beginning must be zeros too.
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
  [[ ${#blank[@]} == 1 ]] || fail "several disks are blank: ${blank[*]}; detach all but the one to use"
  echo "formatting ${blank[0]}, which is blank"
  mkfs.ext4 -q -L "$label" "${blank[0]}"
  ours=("${blank[@]}")
fi

volume=${ours[0]}
status=0
# A full check happens only after a crash that the journal does not cover. Status 1: errors were found and corrected.
e2fsck -p "$volume" || status=$?
[[ $status -le 1 ]] || fail "the file system on $volume has errors that need manual repair (e2fsck: $status)"
ln -sf "$volume" "$link"
echo "using $volume"
