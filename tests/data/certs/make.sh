#!/bin/sh
# Makes the certificates and keys that rcgen cannot make. Run once, with OpenSSL 3.0; the results are checked in.
# They live for 100 years and more; those of weak algorithms are made at security level 0.
set -eu
cd "$(dirname "$0")"
days=36524
subject=/CN=serve.example.com
san=subjectAltName=DNS:serve.example.com

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# self_signed NAME KEY OPTION...: NAME.crt over KEY.key
self_signed() {
	name=$1 key=$2
	shift 2
	openssl req -x509 -new -key "$key.key" -days $days -subj $subject -addext $san -out "$name.crt" "$@"
}

# ca NAME SUBJECT OPTION...: a self-signed CA in $work, with a 2048-bit key unless it is there
ca() {
	name=$1 name_in_it=$2
	shift 2
	[ -e "$work/$name.key" ] || openssl genrsa -out "$work/$name.key" 2048
	openssl req -x509 -new -key "$work/$name.key" -days $days -subj "$name_in_it" -out "$work/$name.crt" "$@"
}

# issued NAME CA SUBJECT EXTENSION OPTION...: $work/NAME.crt over $work/NAME.key by $work/CA
issued() {
	name=$1 ca=$2 name_in_it=$3 extension=$4
	shift 4
	openssl req -new -key "$work/$name.key" -subj "$name_in_it" -out "$work/$name.csr"
	printf '%s\n' "$extension" >"$work/extension"
	openssl x509 -req -in "$work/$name.csr" -CA "$work/$ca.crt" -CAkey "$work/$ca.key" -days $days \
		-extfile "$work/extension" -out "$work/$name.crt" "$@"
}

# Key types that the product does not serve.
openssl dsaparam -genkey -noout -out dsa.key 2048
self_signed dsa dsa -sha256
openssl genpkey -algorithm ED448 -out ed448.key
self_signed ed448 ed448
openssl ecparam -name secp256k1 -genkey -noout -out secp256k1.key
self_signed secp256k1 secp256k1 -sha256
openssl genpkey -algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048 -out rsa-pss.key
self_signed rsa-pss rsa-pss -sha256

# What `openssl ecparam -genkey` writes: a block EC PARAMETERS in front of the key.
openssl ecparam -name prime256v1 -genkey -out ec-parameters.key
self_signed ec-parameters ec-parameters -sha256
# The curve written out instead of named.
openssl ecparam -name prime256v1 -genkey -noout -param_enc explicit -out ec-explicit.key
self_signed ec-explicit ec-explicit -sha256
# The point compressed.
openssl ecparam -name prime256v1 -genkey -noout | openssl ec -conv_form compressed -out ec-compressed.key
self_signed ec-compressed ec-compressed -sha256

# A leaf and its chain over the key rsa.key; who signed them, and with what, differs.
openssl genrsa -out rsa.key 2048
cp rsa.key "$work/leaf.key"
ca root "/CN=Old Root" -sha256
ca root-sha1 "/CN=Old SHA-1 Root" -sha1
openssl genrsa -out "$work/upper.key" 2048

issued leaf root $subject $san -sha1
cat "$work/leaf.crt" >sha1-leaf.crt
issued leaf root $subject $san -md5
cat "$work/leaf.crt" >md5-leaf.crt
self_signed sha1-self-signed-leaf rsa -sha1

issued upper root "/CN=Old Intermediate" basicConstraints=critical,CA:TRUE -sha1
issued leaf upper $subject $san -sha256
cat "$work/leaf.crt" "$work/upper.crt" >sha1-intermediate.crt

issued leaf root-sha1 $subject $san -sha256
cat "$work/leaf.crt" "$work/root-sha1.crt" >sha1-root.crt

openssl genrsa -out "$work/upper.key" 1024
issued upper root "/CN=Small Intermediate" basicConstraints=critical,CA:TRUE -sha256
issued leaf upper $subject $san -sha256
cat "$work/leaf.crt" "$work/upper.crt" >rsa1024-intermediate.crt

openssl genrsa -out "$work/root-1024.key" 1024
ca root-1024 "/CN=Small Root" -sha256
issued leaf root-1024 $subject $san -sha256
cat "$work/leaf.crt" "$work/root-1024.crt" >rsa1024-root.crt

issued leaf root $subject $san -sha256 -sigopt rsa_padding_mode:pss
cat "$work/leaf.crt" >pss-signed.crt
issued leaf root $subject $san -sha1 -sigopt rsa_padding_mode:pss
cat "$work/leaf.crt" >pss-sha1-signed.crt

issued leaf root $subject $san -sha256
cp "$work/leaf.crt" rsa.crt
openssl x509 -in rsa.crt -outform DER -out rsa.der
openssl x509 -in rsa.crt -trustout -addtrust serverAuth -out trusted.crt
openssl rsa -in rsa.key -traditional -aes256 -passout pass:test -out rsa-legacy-encrypted.key
openssl pkcs8 -topk8 -in rsa.key -passout pass:test -out rsa-encrypted.key

# Version 1 of X.509: no extensions.
openssl req -new -key rsa.key -subj $subject -out "$work/v1.csr"
openssl x509 -req -in "$work/v1.csr" -CA "$work/root.crt" -CAkey "$work/root.key" -days $days -sha256 -out v1.crt

# cert-manager's temporary certificates: a throw-away P-521 authority `cert-manager.local`; the leaf's subject
# carries the serialNumber 1234567890. At first they were self-signed, with the serial number 0x1234567890.
openssl ecparam -name secp521r1 -genkey -noout -out "$work/cert-manager.key"
ca cert-manager "/CN=cert-manager.local" -sha512
issued leaf cert-manager "$subject/serialNumber=1234567890" $san -sha512
cat "$work/leaf.crt" >cert-manager-temporary.crt
self_signed cert-manager-temporary-old rsa -sha256 -set_serial 0x1234567890
