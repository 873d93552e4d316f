# Server and worker in one image. Needs BuildKit.
#
#   docker build -t inkpool .                             compiles here
#   docker build -t inkpool --build-arg BINARY=given .    takes PROGRAM, the libraries (scripts/setup) and models from outside
ARG BINARY=build

FROM rust:1.95-slim-bookworm AS build
RUN --mount=type=cache,target=/var/cache/apt,sharing=locked \
    --mount=type=cache,target=/var/lib/apt/lists,sharing=locked \
    apt-get update \
    && apt-get install -y --no-install-recommends cmake curl g++ make nasm pkg-config python3-venv unzip
WORKDIR /src
COPY Cargo.toml ./
COPY scripts/setup scripts/lib.sh scripts/
RUN scripts/setup
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin inkpool \
    && install -D target/release/inkpool /inkpool/bin/inkpool \
    && cp -a models vendor/onnxruntime/lib /inkpool/ \
    && cp -a vendor/pdfium/lib/. /inkpool/lib/

FROM scratch AS given
ARG PROGRAM=target/release/inkpool
COPY ${PROGRAM} /inkpool/bin/inkpool
COPY models /inkpool/models
COPY vendor/onnxruntime/lib /inkpool/lib
COPY vendor/pdfium/lib /inkpool/lib

FROM ${BINARY} AS binary

FROM debian:bookworm-slim
RUN --mount=type=cache,target=/var/cache/apt,sharing=locked \
    --mount=type=cache,target=/var/lib/apt/lists,sharing=locked \
    apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libstdc++6 \
    && install -d -o 65532 -g 65532 /var/lib/inkpool
COPY --from=binary /inkpool /opt/inkpool
ENV PATH=/opt/inkpool/bin:$PATH INKPOOL_DATA=/var/lib/inkpool
WORKDIR /var/lib/inkpool
USER 65532:65532
EXPOSE 8080
# Bash itself can ask: nothing more is installed for it.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["bash", "-c", "port=${INKPOOL_HTTP__LISTEN:-:8080} port=${port##*:}; exec 3<>/dev/tcp/127.0.0.1/$port && printf 'GET /healthz HTTP/1.0\\r\\nHost: 127.0.0.1:%s\\r\\n\\r\\n' $port >&3 && read -r _ code _ <&3 && [[ $code == 200 ]]"]
ENTRYPOINT ["/opt/inkpool/bin/inkpool"]
CMD ["serve"]
