#!/usr/bin/env bash
# Attack fastseg with damaged files, kills, full disks, limits and threads, and print a table of
# what it survived. Exits with 0 if every case was survived. Takes up to 20 minutes on 2 cores,
# the short form up to 3. Needs: pip install -e '.[dev]'; a campaign that needs more says so.
#
#   tools/attack.sh [--short] [--seed N] [--only CAMPAIGN ...] [--case N] [--out FOLDER] [--list]
set -euo pipefail
cd "$(dirname "$0")/.."
exec "${PYTHON:-python}" -m tools.attack "$@"
