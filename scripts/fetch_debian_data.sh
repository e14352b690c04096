#!/bin/sh
# Unpacks Fashion-MNIST from Debian's package dataset-fashion-mnist into the cache,
# where ssl_vae finds it. Needs apt-get and dpkg-deb, and no root.
set -eu

package=dataset-fashion-mnist
files="train-images-idx3-ubyte.gz train-labels-idx1-ubyte.gz \
t10k-images-idx3-ubyte.gz t10k-labels-idx1-ubyte.gz"
base=${XDG_CACHE_HOME:-${HOME:?set HOME or XDG_CACHE_HOME}/.cache}
cache=$base/ssl_vae

fail() {
    echo "error: $1: get $files elsewhere and give their folder as --data_dir" >&2
    exit 2
}

{ command -v apt-get && command -v dpkg-deb; } >/dev/null ||
    fail "Debian's $package needs apt-get and dpkg-deb, which this machine lacks"
mkdir -p "$cache"
lists=$(mktemp -d)
work=$(mktemp -d "$cache/debian.XXXXXX")
trap 'rm -rf "$lists" "$work"' EXIT
trap 'exit 1' HUP INT TERM

# The machine's package lists may be missing, and only root may fetch them: the second
# try fetches lists of our own.
cat >"$lists/apt.conf" <<EOF
Dir::State::Lists "$lists/lists";
Dir::Cache "$lists/cache";
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
EOF
fetch() (
    cd "$lists"
    apt-get -qq download "$package" ||
        { mkdir -p lists/partial cache/archives/partial &&
            apt-get -qq -c "$lists/apt.conf" update &&
            apt-get -qq -c "$lists/apt.conf" download "$package"; }
)
echo "Fetching Debian's package $package (31 MB)" >&2
fetch >"$lists/log" 2>&1 || {
    grep '^E:' "$lists/log" | tail -n 1 >&2
    fail "apt-get cannot download Debian's $package"
}
dpkg-deb -x "$lists/$package"_*.deb "$work/tree"
rm -rf "$cache/debian"
mv "$work/tree" "$cache/debian"
echo "Unpacked into $cache/debian"
