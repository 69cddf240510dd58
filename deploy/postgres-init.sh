#!/bin/sh
# Runs once, when the database is made: a role of the service's own, which cannot switch triggers off as a superuser can.
set -eu
psql -v ON_ERROR_STOP=1 -v password="$PAYMENTS_PASSWORD" --username "$POSTGRES_USER" --dbname postgres <<'SQL'
CREATE ROLE payments LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD :'password';
CREATE DATABASE payments OWNER payments;
REVOKE CONNECT ON DATABASE payments FROM PUBLIC;
SQL
