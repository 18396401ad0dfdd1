# The program and nothing else: one static file on an empty image, for a user without a name.
#
#   docker build --tag kong-cert-reloader .
#
# builds the program, too. Where it is built already (dist/ARCH/kong-cert-reloader, static, ARCH as in
# amd64 or arm64), `--target prebuilt` takes it from there, and runs no command. docs/image.md has more.

# What every image of ours says of itself.
FROM scratch AS described
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="kong-cert-reloader" \
      org.opencontainers.image.description="A sidecar that makes Kong serve renewed certificates at once: no restart, no Kubernetes rights" \
      org.opencontainers.image.source="https://github.com/kong-cert-reloader/kong-cert-reloader" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# As numbers: there is no /etc/passwd, and only of numbers does Kubernetes know that they are not root.
USER 65532:65532
# For `kubectl exec … -- kong-cert-reloader diff`.
ENV PATH=/usr/local/bin
EXPOSE 9797
ENTRYPOINT ["/usr/local/bin/kong-cert-reloader"]

FROM described AS prebuilt
ARG TARGETARCH
COPY dist/${TARGETARCH}/kong-cert-reloader /usr/local/bin/kong-cert-reloader

# The version of Rust is that of rust-toolchain.toml.
FROM rust:1.95.0-slim-bookworm AS build
# The compiler's version is that of this Debian: an exact one is gone from its mirrors after the next mend.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends musl-tools \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY . .
# This toolchain as it is: rust-toolchain.toml asks for tools that only development needs.
ENV RUSTUP_TOOLCHAIN=1.95.0
# musl is made to be linked statically; glibc's look-up of names, its linker warns, still wants libraries.
RUN target="$(uname -m)-unknown-linux-musl" \
    && rustup target add "$target" \
    && cargo build --release --locked --bin kong-cert-reloader --target "$target" \
    && mv "target/$target/release/kong-cert-reloader" /kong-cert-reloader

FROM described
COPY --from=build /kong-cert-reloader /usr/local/bin/kong-cert-reloader
