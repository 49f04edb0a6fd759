# An aarch64 Debian 12 userland for qemu-user: Python 3.11, the wheels of the lock file, doord's own
# wheel, pytest. No root file system to boot, no chroot, no foreign architecture on the host. Sourced.

SUITE=bookworm # its Python is 3.11
ARM_DEBS=(python3.11 libstdc++6 libgcc-s1)
ARM_PLATFORMS=(manylinux_2_34_aarch64 manylinux_2_28_aarch64 manylinux_2_27_aarch64 manylinux_2_26_aarch64
  manylinux_2_24_aarch64 manylinux_2_17_aarch64 manylinux2014_aarch64)
TEST_TOOLS=('pytest>=8.2' 'pytest-xdist>=3.5' 'hypothesis>=6.100' 'jinja2>=3.1')

# make_root DIR LOCK: DIR/root and DIR/python, which runs it; what is there already is kept.
make_root() {
  local dir=$1 lock=$2
  need qemu-aarch64-static qemu-user-static
  need dpkg-deb dpkg
  mkdir -p "$dir"
  make_userland "$dir"
  venv "$dir/pip" pip
  make_site "$dir" "$lock"
  write_launcher "$dir"
}

# The debs of ARM_DEBS and all they need, unpacked; apt has a state of its own and the host's sources.
make_userland() {
  local dir=$1 root=$1/root apt deb
  [ "$(cat "$dir/userland.key" 2>/dev/null)" = "$SUITE ${ARM_DEBS[*]}" ] && return
  say "unpacking an aarch64 Python ($SUITE)"
  rm -rf "$dir"/{root,apt,site.key}
  mkdir -p "$dir"/apt/{state/lists/partial,cache/archives/partial,sources} "$root"/{usr/lib,usr/bin,usr/sbin,proc}
  : >"$dir/apt/state/status"
  debian_sources >"$dir/apt/sources/debian.sources"
  apt=(apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Sandbox::User=root
    -o Dir::State="$dir/apt/state" -o Dir::State::status="$dir/apt/state/status" -o Dir::Cache="$dir/apt/cache"
    -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$dir/apt/sources" -o APT::Install-Recommends=0)
  { "${apt[@]}" update && "${apt[@]}" --yes --download-only install "${ARM_DEBS[@]}"; } \
    >"$dir/apt.log" 2>&1 || { tail -n 20 "$dir/apt.log" >&2; fail "apt-get could not fetch the arm64 packages"; }
  ln -s usr/lib "$root/lib"
  ln -s usr/bin "$root/bin"
  ln -s usr/sbin "$root/sbin"
  for deb in "$dir"/apt/cache/archives/*.deb; do # dpkg-deb -x would put folders in place of the links
    dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$root" --keep-directory-symlink
  done
  rm -rf "$dir/apt" "$root"/usr/share/{doc,man,locale}
  printf '%s' "$SUITE ${ARM_DEBS[*]}" >"$dir/userland.key"
}

# The host's own mirror of Debian, with the suite wanted here.
debian_sources() {
  local mirror
  mirror=$({ cat /etc/apt/sources.list /etc/apt/sources.list.d/debian* 2>/dev/null || true; } |
    sed -nE 's/^(deb(-src)? (\[[^]]*\] )?|URIs: *)(http[^ ]*\/debian)\/?( .*)?$/\4/p' | head -n 1)
  printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n' \
    "${mirror:?no mirror of Debian among the sources of apt}" "$SUITE"
}

# The wheels: the lock file's by their hashes, doord's own, and what runs tests.
make_site() {
  local dir=$1 lock=$2 site=$1/root/opt/site key options=()
  key=$({ cat "$lock" pyproject.toml tests/aarch64/make_root.sh; git ls-files -s edge models; git diff HEAD -- edge models; } | sha256sum)
  [ "$(cat "$dir/site.key" 2>/dev/null)" = "$key" ] && return
  say "unpacking the wheels of $lock"
  rm -rf "$site" "$dir/wheel"
  for platform in "${ARM_PLATFORMS[@]}"; do options+=(--platform "$platform"); done
  options+=(--quiet --disable-pip-version-check --only-binary=:all: --implementation cp --python-version 3.11)
  {
    "$dir/pip/bin/pip" wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$dir/wheel" . &&
      "$dir/pip/bin/pip" install "${options[@]}" --target "$site/locked" --no-deps --require-hashes -r "$lock" &&
      "$dir/pip/bin/pip" install "${options[@]}" --target "$site/doord" --no-deps "$dir"/wheel/doord-*.whl &&
      "$dir/pip/bin/pip" install "${options[@]}" --target "$site/tools" "${TEST_TOOLS[@]}"
  } >"$dir/pip.log" 2>&1 || { tail -n 20 "$dir/pip.log" >&2; fail "pip could not get the aarch64 wheels"; }
  printf '%s' "$key" >"$dir/site.key"
}

# make_older_runtime DIR: tflite-runtime and the numpy that it needs, in DIR/root/opt/site/older, to stand
# before the locked wheels on PYTHONPATH.
make_older_runtime() {
  local dir=$1 lock=tests/tflite_runtime.txt key options=()
  key=$(sha256sum <"$lock")
  [ "$(cat "$dir/older.key" 2>/dev/null)" = "$key" ] && return
  say "unpacking tflite-runtime"
  rm -rf "$dir/root/opt/site/older"
  for platform in "${ARM_PLATFORMS[@]}"; do options+=(--platform "$platform"); done
  "$dir/pip/bin/pip" install "${options[@]}" --quiet --disable-pip-version-check --only-binary=:all: --no-deps \
    --implementation cp --python-version 3.11 --target "$dir/root/opt/site/older" -r "$lock" \
    >"$dir/pip.log" 2>&1 || { tail -n 20 "$dir/pip.log" >&2; fail "pip could not get tflite-runtime for aarch64"; }
  printf '%s' "$key" >"$dir/older.key"
}

# link_source DIR: this tree's `edge` with its models and nothing else, for another interpreter of the host.
link_source() {
  rm -rf "$1"
  mkdir -p "$1/edge"
  find "$PWD/edge" -mindepth 1 -maxdepth 1 ! -name models -exec ln -s -t "$1/edge" {} +
  ln -s "$PWD/models" "$1/edge/models"
}

# DIR/python: that Python on the processor DOORD_CPU names. It is a script, so that what it starts as
# sys.executable is emulated too without binfmt_misc.
write_launcher() {
  local dir=$1 packages=$1/root/usr/lib/python3/dist-packages
  mkdir -p "$packages"
  cat >"$dir/python" <<LAUNCHER
#!/bin/sh
exec "\${DOORD_QEMU:-qemu-aarch64-static}" -cpu "\${DOORD_CPU:-cortex-a72}" -L "$dir/root" "$dir/root/usr/bin/python3.11" "\$@"
LAUNCHER
  chmod 755 "$dir/python"
  printf '%s\n' "$dir"/root/opt/site/{locked,doord,tools} "import sys; sys.executable = '$dir/python'" \
    >"$packages/doord.pth"
}

# choose_processor DIR CPU: what LiteRT's cpuinfo is to read; without it the host's file makes it crash.
choose_processor() {
  local dir=$1 part features="fp asimd evtstrm crc32 cpuid" core
  case $2 in
    cortex-a72) part=0xd08 ;;
    cortex-a76) part=0xd0b features="fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp" ;;
    *) fail "expected cortex-a72 or cortex-a76, got $2" ;;
  esac
  for core in 0 1 2 3; do
    printf 'processor\t: %s\nBogoMIPS\t: 108.00\nFeatures\t: %s\nCPU implementer\t: 0x41\n' "$core" "$features"
    printf 'CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: %s\nCPU revision\t: 3\n\n' "$part"
  done >"$dir/root/proc/cpuinfo"
  export DOORD_CPU=$2
}
