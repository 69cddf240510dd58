#!/bin/sh
# Creates the namespace that the service uses. Closed histories are kept for 30 days.
set -eu
temporal operator namespace describe --namespace "$NAMESPACE" >/dev/null 2>&1 ||
  temporal operator namespace create --namespace "$NAMESPACE" --retention 720h
temporal operator namespace describe --namespace "$NAMESPACE" >/dev/null
