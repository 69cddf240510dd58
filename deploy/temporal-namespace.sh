#!/bin/sh
# Creates the namespace that the service uses. Closed histories are kept for 30 days.
set -eu
case ${1-} in
  -h | --help)
    echo "usage: temporal-namespace.sh [--help]

Makes the namespace that NAMESPACE names, on the Temporal server at TEMPORAL_ADDRESS, unless it is there."
    exit 0 ;;
  ?*)
    echo "usage: temporal-namespace.sh [--help]" >&2
    exit 2 ;;
esac
temporal operator namespace describe --namespace "$NAMESPACE" >/dev/null 2>&1 ||
  temporal operator namespace create --namespace "$NAMESPACE" --retention 720h
temporal operator namespace describe --namespace "$NAMESPACE" >/dev/null
