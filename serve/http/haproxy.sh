#!/bin/sh
# Starts the HAProxy ($THERMAPAIR_HAPROXY) that Ray Serve puts before the gateways, with Ray's own words ($@: -db -f
# CONFIGURATION ...), after changes of what Ray wrote:
#   a gateway that was lost is answered as a problem to come back from, not as a bare 500;
#   while a path's gateway refuses (503), what is more than it has room for (X-Room) is refused without asking it, for to
#   refuse costs it as much as small work;
#   what HAProxy says of itself is asked by a socket in its folder, not on ports that any machine can reach;
#   the folder, with the socket that HAProxy is steered by, is its owner's alone;
#   a caller's first request goes over a connection of its own, for on one that others used before, a lost gateway is an
#   empty answer, by which HAProxy leaves it to the caller to ask again.
set -eu

configuration= previous=
for word; do
    if [ "$previous" = -f ]; then configuration=$word; fi
    previous=$word
done

# problem KIND TITLE DETAIL ID: a problem as serve/http/answers.py has it.
problem() {
    printf '{"type": "urn:thermapair:%s", "title": "%s", "status": 503, "detail": "%s", "errors": [], "way_out": "Ask again in 2 s.", "request_id": "%s"}' "$@"
}

if [ -n "$configuration" ]; then
    folder=$(dirname "$configuration")
    chmod 700 "$folder"
    lost=$(problem replica-lost "A worker was lost" "the process that took this request has ended" "")
    printf 'HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\nRetry-After: 2\r\nContent-Length: %d\r\n\r\n%s' \
        "${#lost}" "$lost" > "$folder/500.http"
    problem busy "The queue is full" "more is asked than can be answered in time" "%[var(txn.id)]" > "$folder/busy.json"
    cat > "$folder/frontend.cfg" <<END
    http-request set-var(txn.id) uuid()
    http-request set-var(txn.id) req.hdr(x-request-id) if { req.hdr(x-request-id) -m found }
    stick-table type string len 64 size 1k expire 10s store conn_cur,gpt0,gpc0_rate(500ms)
    http-request track-sc0 path if METH_POST
    http-request set-var(txn.room) sc0_get_gpt0
    http-request set-var(txn.over) sc0_conn_cur,sub(txn.room) if METH_POST { sc0_gpc0_rate gt 0 }
    http-request return status 503 content-type application/problem+json lf-file $folder/busy.json hdr Retry-After 2 hdr X-Request-Id %[var(txn.id)] if { var(txn.over) -m int gt 0 }
    http-response sc-set-gpt0(0) res.hdr_val(x-room) if { res.hdr(x-room) -m found }
    http-response sc-inc-gpc0(0) if { res.hdr(x-room) -m found }
END
    sed -i -E -e "s#http-reuse always#http-reuse safe#" -e "s#^( *bind )\*?:([0-9]+) *\$#\1unix@$folder/\2#" \
        -e "/^frontend http_frontend/{n;r $folder/frontend.cfg
}" "$configuration"
fi

exec "$THERMAPAIR_HAPROXY" "$@"
