#!/usr/bin/env bash
# What a container of the one image is. The first word is a role of Airflow, `migrate`, `airflow`,
# `health [role]`, or else a command of the `outwatch` CLI. It needs no Docker: any environment with
# Outwatch installed will do.
set -euo pipefail

health() {
  case "${1:-cli}" in
    api-server)
      # The image has no curl; a bad status or a timeout raises, and so ends with 1.
      python -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=10)' \
        "http://127.0.0.1:${AIRFLOW__API__PORT:-8080}/api/v2/monitor/health"
      ;;
    scheduler) airflow jobs check --local --job-type SchedulerJob ;;
    dag-processor) airflow jobs check --local --job-type DagProcessorJob ;;
    triggerer) airflow jobs check --local --job-type TriggererJob ;;
    uploads)
      # That it wants its token is an answer too.
      python -c 'import sys, httpx
sys.exit(httpx.get(sys.argv[1], timeout=10, trust_env=False).status_code >= 500)' http://127.0.0.1:8080/uploads
      ;;
    cli) outwatch --version ;;
    *)
      echo "health: expected api-server, scheduler, dag-processor, triggerer, uploads or cli, found $1" >&2
      return 2
      ;;
  esac
}

migrate() {
  airflow db migrate
  # Opening a pipeline brings Outwatch's own database to date, makes the bucket where it is missing,
  # and fails where a setting is wrong.
  python -c 'from outwatch.pipeline.wiring import open_pipeline
with open_pipeline():
    print("database and store are ready")'
}

case "${1:---help}" in
  api-server | scheduler | dag-processor | triggerer) exec airflow "$@" ;;
  airflow | outwatch) exec "$@" ;;
  migrate) migrate ;;
  health) health "${@:2}" ;;
  *) exec outwatch "${@:---help}" ;;
esac
