# shellcheck shell=bash
# Copies a node's secret and channel backup to the working directory, for each network:   clightning-backup DATA_DIR [METRICS_FILE]
#
# METRICS_FILE is for the textfile collector of Prometheus's node exporter. It is written if everything was copied.
set -euo pipefail
data_dir=$1 metrics_file=${2-} copied=

for file in "$data_dir"/*/hsm_secret "$data_dir"/*/emergency.recover; do
    [[ -e $file ]] || continue
    network=$(basename "$(dirname "$file")")
    mkdir -p "$network"
    # Replace each copy atomically: an old copy is better than a truncated new one. Each line by itself, so that its failure ends this.
    cp "$file" "$network/new"
    sync "$network/new"
    mv -f "$network/new" "$network/$(basename "$file")"
    copied=true
done

# A node that has not started yet has nothing to copy.
if [[ -n $metrics_file && -n $copied ]]; then
    metric=lnplaylive_backup_last_success_timestamp_seconds
    # The collector skips this name.
    printf '# HELP %s When the secret and the channel backup were copied\n# TYPE %s gauge\n%s %s\n' \
        $metric $metric $metric "$(date +%s)" >"$metrics_file.new"
    chmod 0644 "$metrics_file.new"
    mv -f "$metrics_file.new" "$metrics_file"
fi
