#!/bin/sh
# Starts the HAProxy ($THERMAPAIR_HAPROXY) that Ray Serve puts before the gateways, with Ray's own words ($@: -db -f
# CONFIGURATION ...), after four changes of what Ray wrote:
#   a gateway that was lost is answered as a problem to come back from, not as a bare 500;
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

if [ -n "$configuration" ]; then
    folder=$(dirname "$configuration")
    chmod 700 "$folder"
    body='{"type": "urn:thermapair:replica-lost", "title": "A worker was lost", "status": 503, "detail": "the process that took this request has ended", "errors": [], "way_out": "Ask again in 2 s.", "request_id": ""}'
    printf 'HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\nRetry-After: 2\r\nContent-Length: %d\r\n\r\n%s' \
        "${#body}" "$body" > "$folder/500.http"
    sed -i -E -e "s#http-reuse always#http-reuse safe#" -e "s#^( *bind )\*?:([0-9]+) *\$#\1unix@$folder/\2#" "$configuration"
fi

exec "$THERMAPAIR_HAPROXY" "$@"
