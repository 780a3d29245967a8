# shellcheck shell=bash
# Writes when the backup of each network was last uploaded:   upload-metrics COPIES RECORDS FILE
#
# COPIES and RECORDS are the directories of lnplaylive-backup-upload. A network whose copies are gone is left out, and so is one that was
# never uploaded. FILE is for the textfile collector of Prometheus's node exporter, which skips all names that do not end in .prom.
set -euo pipefail
metric=lnplaylive_backup_uploaded_timestamp_seconds
shopt -s nullglob
{
    printf '# HELP %s When the encrypted backup of a network was last uploaded\n# TYPE %s gauge\n' $metric $metric
    for secret in "$1"/*/hsm_secret; do
        network=$(basename "$(dirname "$secret")")
        [[ ! -e $2/$network ]] || printf '%s{network="%s"} %s\n' $metric "$network" "$(stat --format=%Y "$2/$network")"
    done
} >"$3.new"
chmod 0644 "$3.new"
mv -f "$3.new" "$3"
