# One image for all roles and for the agent, so that their versions never differ: two static
# programs, and nothing else to attack or to patch. People's command line runs in no pod of ours
# and has a stage of its own.
#
#     docker build -t watchword .                    compiles everything in the `build` stage
#     docker build --target prebuilt -t watchword -f Dockerfile DIR
#                                                    takes the programs from DIR (`make image`)
#     docker build --target cli --output DIR .       leaves the command line, `watchword`, in DIR
#
# buildah and podman take the same arguments.
ARG RUST_VERSION=1.95.0

FROM scratch AS base
LABEL org.opencontainers.image.title="watchword" \
      org.opencontainers.image.description="Secrets for pods, from their task definitions" \
      org.opencontainers.image.licenses="Apache-2.0"
# A number: a name could not be checked against runAsNonRoot.
USER 65532:65532

FROM base AS prebuilt
COPY agent watchword-controller /

FROM rust:${RUST_VERSION}-bookworm AS build
ARG RUST_VERSION
# The toolchain of the image is the one of rust-toolchain.toml; naming it keeps rustup from
# fetching the components that only checks need.
ENV CARGO_TARGET_DIR=/target \
    RUSTFLAGS="-C target-feature=+crt-static" \
    RUSTUP_TOOLCHAIN=${RUST_VERSION}
WORKDIR /source
COPY . .
# The target is named, or procedural macros would be linked statically too, which fails.
RUN --mount=type=cache,id=watchword-cargo,target=/usr/local/cargo/registry \
    --mount=type=cache,id=watchword-target,target=/target \
    set -eu; \
    host=$(rustc -vV | sed -n 's/^host: //p'); \
    cargo build --locked --target "$host" --release --package watchword-controller --package watchword-cli; \
    AWS_LC_SYS_NO_JITTER_ENTROPY=1 \
    cargo build --locked --target "$host" --profile agent --package watchword-agent; \
    mkdir /cli /programs; \
    cp "/target/$host/release/watchword" /cli; \
    cp "/target/$host/release/watchword-controller" /programs; \
    cp "/target/$host/agent/watchword-agent" /programs/agent

FROM base AS cli
COPY --from=build /cli/ /

FROM base
COPY --from=build /programs/ /
