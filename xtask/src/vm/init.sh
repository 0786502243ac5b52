#!/bin/busybox sh
# PID 1 of the guest: a server, a client, the auditor between them, then TLS connections; what was found goes to the console, framed by "@@" lines.
/bin/busybox --install -s /bin
export PATH=/bin OPENSSL_CONF=/etc/openssl.cnf
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
ip link set lo up
# Where a service's address is, which is translated.
ip addr add 10.250.0.1/24 dev lo
for module in /modules/"$(uname -r | cut -d. -f1,2)"/*; do insmod "$module"; done
echo "@@ kernel $(uname -r)"

call() { wget -q -O /dev/null "$@"; }
# A call inside TLS.
inside() { printf 'GET /inside HTTP/1.0\r\n\r\n' | openssl s_client -quiet -connect 127.0.0.1:8443 >/dev/null 2>&1; }
# Calls until a record with $1 is there: how long a guest takes without hardware help cannot be foretold.
until_judged() {
    record=$1
    shift
    tries=0
    until grep -q "$record" "$records"; do
        tries=$((tries + 1))
        [ "$tries" -gt 60 ] && return
        kill -0 "$auditor" 2>/dev/null || return
        "$@"
        sleep 1
    done
}

httpd -p 127.0.0.1:8080 -h /www -c /etc/httpd.conf
httpd -p '[::1]:8080' -h /www -c /etc/httpd.conf
: >/run/records
records=/run/records
openssl s_server -quiet -www -accept 127.0.0.1:8443 -cert /etc/server.pem </dev/null >/dev/null 2>&1 &
auditor watch --output jsonl --tls-plaintext >/run/records 2>/run/log &
auditor=$!
until_judged '"/ready"' call http://127.0.0.1:8080/ready

vm-case 40 >/run/expected
call http://127.0.0.1:8080/open
call 'http://[::1]:8080/open-six'
call --header 'Authorization: Bearer opaque-token-of-the-guest' http://127.0.0.1:8080/bearer
call http://127.0.0.1:8080/private/refused
until_judged '"/private/refused"' true
# Where the kernel is too old for what is inside, the wire still shows the connection.
if grep -q 'TLS plaintext is not read' /run/log; then
    until_judged '"kind":"connection".*"security":"tls"' inside
else
    until_judged '"/inside"' inside
fi

kill "$auditor"
wait "$auditor"
echo "@@ status $?"
tls-case 1 20 >/run/tls 2>&1

# The same with each hook alone.
for hook in cgroup fentry kprobe syscall; do
    echo "@@ hook $hook"
    records=/run/records.$hook
    : >"$records"
    auditor watch --output jsonl --capture "$hook" --log-level debug >"$records" 2>/run/log.hook &
    auditor=$!
    until_judged '"/ready"' call http://127.0.0.1:8080/ready
    vm-case 40 >/run/expected.hook
    vm-case ways >/run/ways.hook 2>&1
    vm-case protocols >/run/protocols.hook 2>&1
    call http://127.0.0.1:8080/open
    until_judged '"/open"' true
    sleep 1
    kill "$auditor"
    wait "$auditor"
    echo "@@ hook-status $?"
    echo "@@ hook-expected"
    cat /run/expected.hook
    echo "@@ hook-ways"
    cat /run/ways.hook
    echo "@@ hook-protocols"
    cat /run/protocols.hook
    echo "@@ hook-records"
    cat "$records"
    echo "@@ hook-log"
    cat /run/log.hook
done

echo "@@ tls"
cat /run/tls
echo "@@ expected"
cat /run/expected
echo "@@ records"
cat /run/records
echo "@@ log"
cat /run/log
echo "@@ end"
poweroff -f
