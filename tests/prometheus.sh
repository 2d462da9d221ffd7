#!/usr/bin/env bash
# Debian's Prometheus scrapes five members, two of which are killed: `promtool check metrics` must
# find nothing but the names that etcd chose, and of the alerts of etcd's mixin exactly
# etcdMembersDown must fire.
#
# By hand, since prometheus and what it needs take 45 s to install:
#   apt-get install --no-install-recommends prometheus && tests/prometheus.sh target/release/keelson
set -euo pipefail

server=${1:?the binary of a server}
dir=$(mktemp -d)
declare -A pids=()
finish() {
    if [[ ${#pids[@]} -gt 0 ]]; then kill -9 "${pids[@]}" 2>/dev/null || true; fi
    rm -rf "$dir"
}
trap finish EXIT

first=23700
members=(0 1 2 3 4)
client() { echo "127.0.0.1:$((first + $1))"; }
peer() { echo "http://127.0.0.1:$((first + 10 + $1))"; }
cluster=$(for n in "${members[@]}"; do printf 'm%s=%s,' "$n" "$(peer "$n")"; done)
for n in "${members[@]}"; do
    "$server" --name="m$n" --data-dir="$dir/m$n" --logger=zap --initial-cluster="${cluster%,}" \
        --listen-client-urls="http://$(client "$n")" \
        --advertise-client-urls="http://$(client "$n")" \
        --listen-peer-urls="$(peer "$n")" --initial-advertise-peer-urls="$(peer "$n")" \
        >"$dir/m$n.log" 2>&1 &
    disown
    pids[m$n]=$!
done

# until_true SECONDS COMMAND: repeats it until it succeeds.
until_true() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        if ((end < SECONDS)); then echo "not in time: $*"; exit 1; fi
        sleep 0.1
    done
}
healthy() { curl -fs "http://$(client "$1")/health" | grep -q '"health":"true"'; }
for n in "${members[@]}"; do until_true 60 healthy "$n"; done

for n in "${members[@]}"; do
    curl -fs "http://$(client "$n")/metrics" >"$dir/metrics"
    # 1: it does not parse. 3: a name is not as it advises, and etcd's names are given.
    status=0
    promtool check metrics <"$dir/metrics" >"$dir/lint" 2>&1 || status=$?
    if [[ $status -ne 0 && $status -ne 3 ]] || grep -v '^etcd_' "$dir/lint"; then
        echo "promtool check metrics: $status"
        exit 1
    fi
    # The format that Prometheus asks for.
    curl -fs -H 'Accept: application/openmetrics-text' "http://$(client "$n")/metrics" >/dev/null
done
echo "promtool check metrics: $(grep -vc '^#' "$dir/metrics") series," \
    "nothing but $(wc -l <"$dir/lint") names of etcd's"

targets=$(for n in "${members[@]}"; do printf '"%s",' "$(client "$n")"; done)
cat >"$dir/prometheus.yml" <<END
global: { scrape_interval: 200ms, evaluation_interval: 200ms }
rule_files: [rules.yml]
scrape_configs: [{ job_name: etcd, static_configs: [{ targets: [${targets%,}] }] }]
END

# rule NAME EXPRESSION: an alert of etcd's mixin, which waits 2 s and not 3 to 20 minutes.
rule() { printf '  - alert: %s\n    for: 2s\n    expr: |\n      %s\n' "$1" "$2"; }
up='up{job=~".*etcd.*"}'
of='{job=~".*etcd.*"}'
failing='grpc_code=~"Unknown|FailedPrecondition|ResourceExhausted|Internal|Unavailable|DataLoss|DeadlineExceeded"'
{
    printf 'groups:\n- name: etcd\n  rules:\n'
    rule etcdMembersDown "max without (endpoint) (sum without (instance, pod) ($up == bool 0) or count without (To) (sum without (instance, pod) (rate(etcd_network_peer_sent_failures_total$of[120s])) > 0.01)) > 0"
    rule etcdInsufficientMembers "sum($up == bool 1) without (instance, pod) < ((count($up) without (instance, pod) + 1) / 2)"
    rule etcdNoLeader "etcd_server_has_leader$of == 0"
    rule etcdHighNumberOfLeaderChanges "increase((max without (instance, pod) (etcd_server_leader_changes_seen_total$of) or 0*absent(etcd_server_leader_changes_seen_total$of))[15m:1m]) >= 4"
    rule etcdHighNumberOfFailedGRPCRequests "100 * sum(rate(grpc_server_handled_total{job=~\".*etcd.*\", $failing}[5m])) without (grpc_type, grpc_code) / sum(rate(grpc_server_handled_total$of[5m])) without (grpc_type, grpc_code) > 1"
    rule etcdGRPCRequestsSlow "histogram_quantile(0.99, sum(rate(grpc_server_handling_seconds_bucket{job=~\".*etcd.*\", grpc_method!=\"Defragment\", grpc_type=\"unary\"}[5m])) without (grpc_type)) > 0.15"
    rule etcdMemberCommunicationSlow "histogram_quantile(0.99, rate(etcd_network_peer_round_trip_time_seconds_bucket$of[5m])) > 0.15"
    rule etcdHighNumberOfFailedProposals "rate(etcd_server_proposals_failed_total$of[15m]) > 5"
    rule etcdHighFsyncDurations "histogram_quantile(0.99, rate(etcd_disk_wal_fsync_duration_seconds_bucket$of[5m])) > 0.5"
    rule etcdHighCommitDurations "histogram_quantile(0.99, rate(etcd_disk_backend_commit_duration_seconds_bucket$of[5m])) > 0.25"
    rule etcdDatabaseQuotaLowSpace "(last_over_time(etcd_mvcc_db_total_size_in_bytes$of[5m]) / last_over_time(etcd_server_quota_backend_bytes$of[5m])) * 100 > 95"
    rule etcdExcessiveDatabaseGrowth "predict_linear(etcd_mvcc_db_total_size_in_bytes$of[4h], 4*60*60) > etcd_server_quota_backend_bytes$of"
    rule etcdDatabaseHighFragmentationRatio "(last_over_time(etcd_mvcc_db_total_size_in_use_in_bytes$of[5m]) / last_over_time(etcd_mvcc_db_total_size_in_bytes$of[5m])) < 0.5 and etcd_mvcc_db_total_size_in_use_in_bytes$of > 104857600"
} >"$dir/rules.yml"
promtool check config "$dir/prometheus.yml" >/dev/null

web=127.0.0.1:$((first + 20))
prometheus --config.file="$dir/prometheus.yml" --storage.tsdb.path="$dir/tsdb" \
    --web.listen-address="$web" >"$dir/prometheus.log" 2>&1 &
disown
pids[prometheus]=$!
scraped() { [[ $(query "sum($up)") == "${1}" ]]; }
query() {
    curl -fs "http://$web/api/v1/query" --data-urlencode "query=$1" |
        python3 -c 'import json, sys; print(*[r["value"][1] for r in json.load(sys.stdin)["data"]["result"]])'
}
alerts() {
    curl -fs "http://$web/api/v1/alerts" | python3 -c '
import json, sys
alerts = json.load(sys.stdin)["data"]["alerts"]
print(*sorted({a["labels"]["alertname"] for a in alerts if a["state"] == "firing"}))'
}
until_true 60 scraped 5
sleep 5
echo "five members run; alerts: [$(alerts)]"
[[ -z $(alerts) ]]

kill -9 "${pids[m1]}" "${pids[m3]}"
unset 'pids[m1]' 'pids[m3]'
until_true 60 scraped 3
fires() { [[ $(alerts) == *etcdMembersDown* ]]; }
until_true 60 fires
# Other alerts have as long to fire as this one.
sleep 5
echo "two are killed; alerts: [$(alerts)]"
[[ $(alerts) == etcdMembersDown ]]
