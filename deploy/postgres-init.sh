#!/bin/sh
# Runs once, when the database is made: a role of the service's own, which cannot switch triggers off as a superuser can.
set -eu
# another word may be the container's own: it reads a script that it cannot run into its shell
case ${1-} in
  -h | --help)
    echo "usage: postgres-init.sh [--help]

Run once by the container of PostgreSQL, with POSTGRES_USER and PAYMENTS_PASSWORD: makes the role and the database."
    exit 0 ;;
  -*)
    echo "usage: postgres-init.sh [--help]" >&2
    exit 2 ;;
esac
psql -v ON_ERROR_STOP=1 -v password="$PAYMENTS_PASSWORD" --username "$POSTGRES_USER" --dbname postgres <<'SQL'
CREATE ROLE payments LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD :'password';
CREATE DATABASE payments OWNER payments;
REVOKE CONNECT ON DATABASE payments FROM PUBLIC;
SQL
