# shellcheck shell=bash
# Writes when the node's secret and channel backup were copied to the working directory:   backup-metrics FILE
#
# FILE is for the textfile collector of Prometheus's node exporter, which skips all names that do not end in .prom.
set -euo pipefail
# A node that has not started yet has nothing to copy.
compgen -G '*/hsm_secret' >/dev/null || exit 0
metric=lnplaylive_backup_last_success_timestamp_seconds
printf '# HELP %s When the secret and the channel backup were copied\n# TYPE %s gauge\n%s %s\n' \
    $metric $metric $metric "$(date +%s)" >"$1.new"
chmod 0644 "$1.new"
mv -f "$1.new" "$1"
