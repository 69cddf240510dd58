#!/bin/sh
# Creates or updates Temporal's own tables. The password comes from SQL_PASSWORD.
set -eu
case ${1-} in
  -h | --help)
    echo "usage: temporal-schema.sh [--help]

Makes or updates Temporal's own tables on temporal-postgres, with SQL_PASSWORD."
    exit 0 ;;
  ?*)
    echo "usage: temporal-schema.sh [--help]" >&2
    exit 2 ;;
esac
schema=/etc/temporal/schema/postgresql/v12

tool() {
  temporal-sql-tool --plugin postgres12 --endpoint temporal-postgres --port 5432 --user temporal "$@"
}

for pair in temporal:temporal temporal_visibility:visibility; do
  database=${pair%%:*}
  # Both fail harmlessly on a database that is there already; the update after them fails if either was needed.
  tool --database "$database" create-database || true
  tool --database "$database" setup-schema --version 0.0 || true
  tool --database "$database" update-schema --schema-dir "$schema/${pair##*:}/versioned"
done
