# Encrypts the local copies of the node's key and channel backup, and uploads them:   lnplaylive-backup-upload DIRECTORY RECORDS
#
# DIRECTORY has the copies, DIRECTORY/NETWORK/{hsm_secret,emergency.recover,channels.json}; they are only read. Each network becomes
# the object PREFIX/NETWORK.tar.age of the bucket. An object is uploaded if the key or the list of channels differ from the last
# upload, or if that was a day ago. RECORDS/NETWORK is written after each upload: its modification time is the time of the last
# successful one. What is uploaded is encrypted in memory (RUNTIME_DIRECTORY) first, so that the upload of a complete file is all that
# can fail half-way.
#
# Settings: BACKUP_BUCKET, BACKUP_PREFIX, BACKUP_REGION, BACKUP_ENDPOINT (empty for AWS), BACKUP_RECIPIENTS (separated by commas).
# CREDENTIALS_DIRECTORY/backup_credentials, if it exists, is a file with a key for the storage in the format of the AWS tools;
# otherwise the instance's role is used.
copies=$1
records=$2
scratch=$RUNTIME_DIRECTORY
# Pauses between attempts, in seconds; after the last attempt the run has failed.
read -ra pauses <<<"${BACKUP_PAUSES-30 60 120 240 480}"
# Upload again after this many seconds, even if nothing has changed. Below a day, since the next run is up to an hour later.
max_age=$((23 * 60 * 60))

fail() {
  echo "backup: $1" >&2
  exit 1
}

where() { echo "$BACKUP_BUCKET/$BACKUP_PREFIX/$1.tar.age"; }

# Identifies what is to be uploaded: what is in the copies, for whom, and to where.
fingerprint() {
  {
    echo "$(where "$1") $BACKUP_REGION $BACKUP_ENDPOINT $BACKUP_RECIPIENTS"
    (cd "$copies/$1" && sha256sum -- "${telling[@]}")
  } | sha256sum | cut --delimiter=' ' --fields=1
}

# Sets `files` to the copies that there are of a network, and `telling` to those in which a change is uploaded.
list() {
  local name
  files=()
  for name in hsm_secret emergency.recover channels.json; do
    [[ ! -e $copies/$1/$name ]] || files+=("$name")
  done
  telling=("${files[@]}")
  # emergency.recover has the same channels, unless it was copied when the node could not tell them, and changes with every payment.
  if [[ -e $copies/$1/channels.json && ! $copies/$1/emergency.recover -nt $copies/$1/channels.json ]]; then
    telling=(hsm_secret channels.json)
  fi
}

is_due() {
  local record=$records/$1 age
  [[ -e $record && $(<"$record") == "$2" ]] || return 0
  age=$(($(date +%s) - $(stat --format=%Y "$record")))
  # A record of the future is from before the clock was set.
  [[ $age -lt 0 || $age -ge $max_age ]]
}

# Asks the node of that network, if it is this host's: ask NETWORK METHOD [PARAMETER]
ask() {
  [[ $1 == "${LIGHTNING_NETWORK-}" ]] && timeout 20 lightning-cli --keywords "${@:2}" 2>/dev/null
}

# Writes the orders that are paid and whose time is not over, if the node answers.
orders() {
  rm -f "$scratch/orders.json"
  local state
  for state in queued placing deploying provisioned failed cancelled; do
    ask "$1" lnplayops-orders "state=$state" || exit 1
  done | jq --slurp 'map(.orders[]) | map(select(.refunded_at == null))' >"$scratch/orders.new" 2>/dev/null || return 0
  mv "$scratch/orders.new" "$scratch/orders.json"
}

explain() {
  local id
  id=$(ask "$1" getinfo | jq --raw-output --exit-status .id 2>/dev/null) || id="unknown, it did not answer"
  cat <<EXPLANATION
The key and the channel backup of a Core Lightning node.
network:  $1
node id:  $id
made at:  $(date --utc +%FT%TZ)

hsm_secret         the node's key. Whoever has it can take the node's money.
channels.json      the list of the node's channels, with which their peers are asked to close them.
emergency.recover  the same list in another format, with what a peer that cheats is punished with.
orders.json        the orders that were paid and had not ended, if the node could be asked.

If the node's data is lost, and only then, put hsm_secret into an empty node directory, start lightningd, and call:
    lightning-cli --keywords recoverchannel scb="\$(cat channels.json)"
The peers then close the channels, and the money returns on-chain. Never run two nodes with this key. The steps in full, and
how coins that are on-chain already are found again: docs/deploy-aws.md, "Restore".
EXPLANATION
}

# seal NETWORK: writes the archive, encrypted, to `$scratch/sealed`.
seal() {
  local name parts=()
  for name in ${BACKUP_RECIPIENTS//,/ }; do parts+=(--recipient "$name"); done
  orders "$1"
  explain "$1" >"$scratch/restore.txt"
  local extra=(restore.txt)
  [[ ! -e $scratch/orders.json ]] || extra+=(orders.json)
  tar --create --numeric-owner --owner=0 --group=0 --directory="$copies/$1" "${files[@]}" --directory="$scratch" "${extra[@]}" |
    age --encrypt "${parts[@]}" --output "$scratch/sealed"
}

# The settings of rclone's :s3: remote. The role may only put objects, so rclone must not look at the bucket or the object.
export RCLONE_S3_ENV_AUTH=true RCLONE_S3_NO_CHECK_BUCKET=true RCLONE_S3_NO_HEAD=true RCLONE_S3_REGION=$BACKUP_REGION
if [[ -n $BACKUP_ENDPOINT ]]; then
  export RCLONE_S3_PROVIDER=Other RCLONE_S3_ENDPOINT=$BACKUP_ENDPOINT RCLONE_S3_FORCE_PATH_STYLE=true
else
  export RCLONE_S3_PROVIDER=AWS
fi
if [[ -e ${CREDENTIALS_DIRECTORY-}/backup_credentials ]]; then
  export AWS_SHARED_CREDENTIALS_FILE=$CREDENTIALS_DIRECTORY/backup_credentials AWS_EC2_METADATA_DISABLED=true
fi

upload() {
  timeout 300 rclone --config= --quiet --contimeout=15s --timeout=60s --retries=1 --low-level-retries=2 --no-check-dest \
    copyto "$scratch/sealed" ":s3:$(where "$1")"
}

# attempt NETWORK: uploads it, if it is due, until what is uploaded is what is there.
attempt() {
  local mark said
  while true; do
    list "$1"
    mark=$(fingerprint "$1") || return 1
    is_due "$1" "$mark" || return 0
    if ! said=$(seal "$1" 2>&1); then
      echo "backup: cannot encrypt the copies of $1 for $BACKUP_RECIPIENTS: ${said:-no reason given}; check host.backup.recipients" >&2
      return 1
    fi
    if ! said=$(upload "$1" 2>&1); then
      echo "backup: cannot upload $(where "$1")${BACKUP_ENDPOINT:+ to $BACKUP_ENDPOINT}: ${said:-no answer in time};" \
        "check that the bucket exists in ${BACKUP_REGION:-its region} and that the instance's role, or the key in the user-data," \
        "may s3:PutObject there. The copies in $copies are untouched" >&2
      return 1
    fi
    { echo "$mark" >"$records/$1.new" && mv "$records/$1.new" "$records/$1"; } || return 1
    echo "uploaded $(where "$1")"
  done
}

shopt -s nullglob
found=("$copies"/*/hsm_secret)
if [[ ${#found[@]} == 0 ]]; then
  echo "there are no copies in $copies yet: the node has not started, or see the unit clightning-backup"
  exit 0
fi

failed=()
for secret in "${found[@]}"; do
  network=$(basename "$(dirname "$secret")")
  for ((tries = 0; ; tries++)); do
    ! attempt "$network" || break
    if [[ $tries -ge ${#pauses[@]} ]]; then
      failed+=("$network")
      break
    fi
    sleep "${pauses[tries]}"
  done
done
rm -f "$scratch"/{sealed,restore.txt,orders.json,orders.new}
[[ ${#failed[@]} == 0 ]] || fail "not uploaded: ${failed[*]}. It is tried again every hour; to try now, run \`systemctl start lnplaylive-backup\`"
