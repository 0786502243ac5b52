#!/bin/busybox sh
# PID 1 of the guest: calls over kernel TLS while the auditor runs with `--tls-plaintext`; what was found goes to the console, framed by "@@" lines.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
ip link set lo up
echo "@@ kernel $(uname -r)"

logged() {
    tries=0
    until grep -q "$1" /run/log; do
        tries=$((tries + 1))
        [ "$tries" -gt 60 ] && return
        sleep 1
    done
}

echo "@@ doctor"
auditor doctor | grep '^Kernel TLS'
: >/run/log
auditor watch --output jsonl --tls-plaintext --log-level debug >/run/records 2>/run/log &
auditor=$!
logged 'reading TLS plaintext'
# Without the module nothing is attached.
grep -c 'reading kernel TLS' /run/log | sed 's/^/@@ early /'
for module in /modules-tls/"$(uname -r | cut -d. -f1,2)"/*; do insmod "$module"; done
logged 'reading kernel TLS'
ktls-case >/run/expected 2>/run/case
sleep 1
kill "$auditor"
wait "$auditor"
echo "@@ status $?"
echo "@@ doctor-loaded"
auditor doctor | grep '^Kernel TLS'
echo "@@ case"
cat /run/case
echo "@@ expected"
cat /run/expected
echo "@@ records"
cat /run/records
echo "@@ log"
cat /run/log
echo "@@ end"
poweroff -f
