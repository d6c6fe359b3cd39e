#!/bin/sh
# Makes the certificates of the TLS tests anew: an authority, and two servers that it vouches for. They end in a hundred
# years; the keys open nothing.
set -eu
cd "$(dirname "$0")"
new_key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1"; }
new_key authority.key
openssl req -x509 -new -key authority.key -sha256 -days 36500 -subj "/CN=Tollgate test authority" -out authority.pem
new_key server.key
certify() {
  openssl req -new -key server.key -subj "/CN=Tollgate test server" -out request.pem
  printf 'subjectAltName = %s\nbasicConstraints = CA:FALSE\n' "$1" > extensions
  openssl x509 -req -in request.pem -CA authority.pem -CAkey authority.key -sha256 -days 36500 -set_serial "$3" \
    -extfile extensions -out "$2"
}
certify IP:127.0.0.1 here.pem 1
certify DNS:tollgate.example elsewhere.pem 2
rm authority.key request.pem extensions
