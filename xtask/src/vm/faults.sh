#!/bin/busybox sh
# PID 1 of a guest with two processors: the auditor while the clock is stepped and a processor goes, and where memory runs out. What was
# found goes to the console, framed by "@@" lines.
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

vm-case held >/run/before
: >/run/records
records=/run/records
httpd -p 127.0.0.1:8080 -h /www
# Calls until a record with $1 is there.
until_judged() {
    tries=0
    until grep -q "$1" "$records"; do
        tries=$((tries + 1))
        [ "$tries" -gt 120 ] && return
        kill -0 "$auditor" 2>/dev/null || return
        wget -q -O /dev/null "http://127.0.0.1:8080$2"
        sleep 1
    done
}

auditor watch --output jsonl >/run/records 2>/run/log &
auditor=$!
until_judged '"/ready"' /ready
vm-case faults >/run/expected 2>/run/faults
until_judged '"/open"' /open
sleep 1
kill "$auditor"
wait "$auditor"
echo "@@ status $?"

# Less memory than it needs: the kernel ends it, and nothing of it stays.
echo +memory >/sys/fs/cgroup/cgroup.subtree_control
mkdir /sys/fs/cgroup/tight
records=/run/records.tight
: >"$records"
sh -c 'echo 0 >/sys/fs/cgroup/tight/cgroup.procs; exec auditor watch --output jsonl' >"$records" 2>/run/log.tight &
auditor=$!
until_judged '"/ready"' /ready
vm-case held >/run/between
echo 1M >/sys/fs/cgroup/tight/memory.max
tries=0
while kill -0 "$auditor" 2>/dev/null && [ "$tries" -lt 60 ]; do
    tries=$((tries + 1))
    wget -q -O /dev/null http://127.0.0.1:8080/open
    sleep 1
done
wait "$auditor"
echo "@@ ended $?"
vm-case held >/run/after
# The kernel frees programs and maps a moment after the last reference is gone.
tries=0
until cmp -s /run/before /run/after || [ "$tries" -gt 30 ]; do
    tries=$((tries + 1))
    sleep 1
    vm-case held >/run/after
done

for name in before between after faults expected records log log.tight; do
    echo "@@ $name"
    cat "/run/$name"
done
echo "@@ end"
poweroff -f
