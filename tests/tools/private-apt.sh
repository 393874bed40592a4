# Sourced by the scripts here that fetch from a Debian suite: apt works on a state and a configuration of its own, in a scratch
# folder, and the host's are left as they are.

# private_apt SCRATCH SUITE: makes apt-get fetch from SUITE, binaries and sources. Downloads are in SCRATCH/apt/cache/archives.
private_apt() {
    local apt=$1/apt suite=$2 mirror
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m1 -E '/debian/?$' || true)
    mirror=${mirror:-http://deb.debian.org/debian/}
    mkdir -p "$apt"/{etc/{apt.conf.d,preferences.d,sources.list.d,trusted.gpg.d},lists/partial,cache/archives/partial}
    : >"$apt/status"
    for kind in deb deb-src; do
        echo "$kind [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main"
    done >"$apt/etc/sources.list"
    # A mirror frozen in time has Release files past their date. Without the User line apt cannot enter a private folder.
    cat >"$apt/apt.conf" <<CONF
Dir::Etc "$apt/etc";
Dir::Etc::parts "$apt/etc/apt.conf.d";
Dir::State "$apt";
Dir::State::lists "$apt/lists";
Dir::State::status "$apt/status";
Dir::Cache "$apt/cache";
APT::Architecture "$(dpkg --print-architecture)";
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Check-Valid-Until "false";
Acquire::Retries "3";
CONF
    # The whole configuration is the one above, so that no setting of the host's leaks in.
    export APT_CONFIG=$apt/apt.conf DEBIAN_FRONTEND=noninteractive
    apt-get -qq update </dev/null
}
