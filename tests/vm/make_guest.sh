# Makes the guest: a Debian 12 tree with systemd, its own kernel's gpio-sim, Python and what the
# door's modules import. Sourced by `run`. Needs root (mmdebstrap), about a minute, once.

SUITE=bookworm # its kernel, headers and source come out of one transaction, so they are of one version
PYTHON_OF_SUITE=3.11
PACKAGES=systemd-sysv,dbus,udev,kmod,python3,linux-image-amd64,linux-headers-amd64,linux-source-6.1,gcc,make,xz-utils
WHEELS=(gpiozero==2.0.1.post3 gpiod==2.5.0 msgspec==0.22.0 pyyaml==6.0.3 'numpy<3' 'cryptography>=42' \
  'paho-mqtt>=2.0,<3' 'tuf>=6,<8' 'securesystemslib>=1.2,<2' 'pytest>=8.2' 'hypothesis>=6.100')

# guest_key: what the image is made of; another key, another image.
guest_key() {
  { printf '%s\n' "$SUITE" "$PACKAGES" "${WHEELS[@]}"; cat tests/vm/make_guest.sh tests/vm/gpio_sim.sed tests/vm/guest/agent.py; } |
    sha256sum | cut -c1-16
}

# make_guest DIR: DIR/{vmlinuz,initrd,root.qcow2,kernel}
make_guest() {
  local dir=$1 tree=$1/tree
  [ "$(cat "$dir/key" 2>/dev/null)" = "$(guest_key)" ] && return
  [ "$(id -u)" = 0 ] || fail "making the guest's disk needs root: sudo tests/vm/run"
  say "making the guest (mmdebstrap $SUITE; about 2 minutes, once)"
  rm -rf "$dir"
  mkdir -p "$dir"
  mmdebstrap --quiet --variant=minbase --include="$PACKAGES" --essential-hook='
      mkdir -p "$1/etc/initramfs-tools/conf.d"
      printf "MODULES=list\nCOMPRESS=gzip\nRESUME=none\n" >"$1/etc/initramfs-tools/conf.d/doord"' \
    "$SUITE" "$tree" >"$dir/mmdebstrap.log" 2>&1 || { tail -n 20 "$dir/mmdebstrap.log" >&2; fail "mmdebstrap failed"; }
  basename "$tree"/boot/vmlinuz-* | cut -d- -f2- >"$dir/kernel"
  build_gpio_sim "$tree" "$(cat "$dir/kernel")" >"$dir/module.log" 2>&1 ||
    { tail -n 20 "$dir/module.log" >&2; fail "gpio-sim could not be built"; }
  venv "$(dirname "$dir")/pip" pip
  "$(dirname "$dir")/pip/bin/pip" install --quiet --disable-pip-version-check --target "$tree/opt/site" --only-binary=:all: \
    --implementation cp --python-version "$PYTHON_OF_SUITE" \
    --platform manylinux_2_34_x86_64 --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 \
    "${WHEELS[@]}" >"$dir/pip.log" 2>&1 || { tail -n 20 "$dir/pip.log" >&2; fail "pip could not get the guest's wheels"; }
  settle_guest "$tree"
  cp "$tree"/boot/vmlinuz-* "$dir/vmlinuz"
  cp "$tree"/boot/initrd.img-* "$dir/initrd"
  truncate -s 1500M "$dir/root.raw"
  mke2fs -q -t ext4 -d "$tree" -F "$dir/root.raw"
  qemu-img convert -O qcow2 "$dir/root.raw" "$dir/root.qcow2"
  rm -rf "$dir/root.raw" "$tree"
  guest_key >"$dir/key"
}

# Debian's kernels have GPIO_SIM and IRQ_SIM switched off: both files become one module.
build_gpio_sim() {
  local tree=$1 version=$2 work=$1/usr/src/doord
  mkdir -p "$work"
  tar xf "$tree"/usr/src/linux-source-*.tar.xz -C "$work" --strip-components=3 --wildcards \
    'linux-source-*/drivers/gpio/gpio-sim.c' 'linux-source-*/drivers/gpio/gpiolib.h'
  tar xf "$tree"/usr/src/linux-source-*.tar.xz -C "$work" --strip-components=3 --wildcards \
    'linux-source-*/kernel/irq/irq_sim.c'
  sed -i -f tests/vm/gpio_sim.sed "$work/gpio-sim.c" "$work/irq_sim.c"
  grep -q 'if (keep_level)' "$work/gpio-sim.c" || { echo "gpio_sim.sed no longer fits the kernel's gpio-sim.c"; return 1; }
  printf 'obj-m := gpio-sim-doord.o\ngpio-sim-doord-y := gpio-sim.o irq_sim.o\n' >"$work/Kbuild"
  chroot "$tree" make -C "/lib/modules/$version/build" M=/usr/src/doord modules
  install -D "$work/gpio-sim-doord.ko" "$tree/lib/modules/$version/extra/gpio-sim-doord.ko"
  chroot "$tree" depmod "$version"
}

# What a door's board has not: no compiler, no console login, no timers; an agent on the second serial port.
settle_guest() {
  local tree=$1
  printf '%s\n' virtio_pci virtio_blk ext4 >>"$tree/etc/initramfs-tools/modules"
  chroot "$tree" update-initramfs -u
  rm -rf "$tree"/usr/src/* "$tree"/usr/lib/gcc "$tree"/usr/share/{doc,man,locale} "$tree"/var/cache/apt/*
  rm -rf "$tree"/usr/lib/modules/*/kernel/{drivers/{net,gpu,infiniband,scsi,usb,staging,iio,hid,ata},sound,net,arch}
  # of the cameras' drivers what vivid needs, a camera without hardware
  rm -rf "$tree"/usr/lib/modules/*/kernel/drivers/media/{dvb-core,dvb-frontends,firewire,i2c,mmc,pci,platform,radio,spi,tuners,usb}
  chroot "$tree" depmod "$(basename "$tree"/usr/lib/modules/*)"
  install -D -m 755 tests/vm/guest/agent.py "$tree/opt/agent.py"
  cat >"$tree/etc/systemd/system/agent.service" <<'UNIT'
[Unit]
Description=Runs what the test host says
[Service]
ExecStart=/usr/bin/python3 /opt/agent.py /dev/ttyS1
[Install]
WantedBy=multi-user.target
UNIT
  chroot "$tree" systemctl --quiet enable agent.service
  chroot "$tree" systemctl --quiet mask getty.target systemd-timesyncd.service apt-daily.timer \
    apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer \
    systemd-networkd.service systemd-logind.service serial-getty@ttyS0.service
  echo doord-vm >"$tree/etc/hostname"
  : >"$tree/etc/fstab"
  echo /opt/site >"$tree/usr/lib/python3/dist-packages/site.pth"
}
