#!/bin/sh
# Install the named Debian packages that are missing. Uses sudo when not root; says what to do when it cannot.
set -e
missing=""
for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q "ok installed" || missing="$missing $package"
done
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ]; then run=""; elif command -v sudo >/dev/null; then run="sudo"; else
    echo "please install as root:$missing   (apt-get install$missing)" >&2
    exit 1
fi
echo "installing with apt:$missing"
$run apt-get update -qq
DEBIAN_FRONTEND=noninteractive $run apt-get install -y -qq --no-install-recommends $missing >/dev/null
