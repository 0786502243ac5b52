#!/bin/busybox sh
# PID 1 of a guest whose clock counts instructions: the same load alone and beside each watcher of /etc/watchers; what each took goes to
# the console, framed by "@@" lines.
/bin/busybox --install -s /bin
export PATH=/bin:/usr/bin HOME=/tmp
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
ip link set lo up
echo "@@ kernel $(uname -r)"

# Nothing below that is measured starts a process but the load's own: reading is done by the shell itself.
# Nanoseconds that tasks have run, the idle task not: Documentation/scheduler/sched-stats.rst.
total() {
    while read -r name _ _ _ _ _ _ run _; do
        [ "$name" = cpu0 ] && total=$run
    done </proc/schedstat
}
# Those of a process and the ones it started.
own() {
    own=0
    [ -z "$1" ] && return
    read -r children <"/proc/$1/task/$1/children"
    for process in $1 $children; do
        for task in /proc/"$process"/task/*/schedstat; do
            read -r run _ <"$task" && own=$((own + run))
        done
    done
}
# Waits until what was to be done is done: less than a twentieth of a second is busy.
settle() {
    tries=0
    while [ "$tries" -lt 120 ]; do
        tries=$((tries + 1))
        total
        before=$total
        sleep 1
        total
        [ $((total - before)) -lt 50000000 ] && return
    done
}
load() { h2load --h1 -t1 -c16 -n "$1" http://127.0.0.1:8080/items/42; }
measure() {
    load "$WARM" >/dev/null
    settle
    own "$1"
    own_before=$own
    total
    total_before=$total
    load "$REQUESTS" >/run/load
    settle
    total
    own "$1"
    echo "@@ took $((total - total_before)) $((own - own_before))"
    grep succeeded /run/load
}

. /etc/load
nginx -c /etc/nginx.conf &
master=$!
until wget -q -O /dev/null http://127.0.0.1:8080/ 2>/dev/null; do sleep 1; done
# The watchers' files name it.
read -r WORKER _ <"/proc/$master/task/$master/children"
echo "@@ watcher nothing"
measure ''
for file in /etc/watchers/*; do
    . "$file"
    echo "@@ watcher $NAME"
    : >/run/out
    : >/run/log
    start >/run/out 2>/run/log &
    pid=$!
    tries=0
    until grep -q -e "$READY" /run/out /run/log; do
        tries=$((tries + 1))
        [ "$tries" -gt 120 ] && break
        kill -0 "$pid" 2>/dev/null || break
        sleep 1
    done
    if grep -q -e "$READY" /run/out /run/log; then
        sleep 1
        measure "$pid"
        wget -q -O /run/metrics http://127.0.0.1:9900/metrics 2>/dev/null || : >/run/metrics
    else
        echo "@@ absent"
    fi
    kill "$pid" 2>/dev/null
    wait "$pid"
    echo "@@ marked $(grep -c -e "^$MARKS" /run/out)"
    echo "@@ log"
    tail -n 40 /run/log
    grep '^Lost ' /run/out
    echo "@@ metrics"
    grep -e '^auditor_exchanges_total' -e '^auditor_capture_lost_total' /run/metrics
    echo "@@"
done
echo "@@ watcher nothing, again"
measure ''
echo "@@ end"
poweroff -f
