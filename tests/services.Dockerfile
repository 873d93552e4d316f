# The services of docker-compose.yml for machines without an image registry: what the images of their makers do, as far as
# docker-compose.yml relies on it. Built by scripts/test-image --services.
FROM debian:bookworm-slim AS packages
RUN --mount=type=cache,target=/var/cache/apt,sharing=locked \
    --mount=type=cache,target=/var/lib/apt/lists,sharing=locked \
    mkdir -p /etc/postgresql-common \
    && echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf \
    && apt-get update \
    && apt-get install -y --no-install-recommends busybox ca-certificates caddy netcat-openbsd postgresql \
    && ln -s /bin/busybox /usr/local/bin/wget

FROM packages AS caddy
CMD ["caddy", "run"]

FROM packages AS nats
COPY nats-server /usr/local/bin/
ENTRYPOINT ["nats-server"]

FROM packages AS postgres
ENV PATH=/usr/lib/postgresql/15/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin PGDATA=/var/lib/postgresql/data
RUN printf '%s\n' '#!/bin/bash' 'set -e' \
    '[[ $1 == postgres ]] || exec "$@"' \
    'as() { setpriv --reuid postgres --regid postgres --clear-groups -- "$@"; }' \
    'mkdir -p "$PGDATA" && chown postgres:postgres "$PGDATA" && chmod 700 "$PGDATA"' \
    'if [[ ! -s $PGDATA/PG_VERSION ]]; then' \
    '  install -o postgres -m 600 /dev/null /tmp/password && echo "$POSTGRES_PASSWORD" >/tmp/password' \
    '  as initdb --username="$POSTGRES_USER" --pwfile=/tmp/password --auth=scram-sha-256 --encoding=UTF8 --locale=C' \
    '  echo "CREATE DATABASE $POSTGRES_DB" | as postgres --single -D "$PGDATA" postgres' \
    '  echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"' \
    'fi' \
    'exec setpriv --reuid postgres --regid postgres --clear-groups -- "$@" -c "listen_addresses=*" -c unix_socket_directories=/tmp' \
    >/usr/local/bin/entrypoint && chmod +x /usr/local/bin/entrypoint
VOLUME /var/lib/postgresql/data
STOPSIGNAL SIGINT
ENTRYPOINT ["entrypoint"]
CMD ["postgres"]

# Takes the words that docker-compose.yml says to VersityGW.
FROM packages AS versitygw
COPY s3_server /usr/local/bin/
RUN printf '%s\n' '#!/bin/bash' '[[ "$*" == "--port :7070 --region us-east-1 posix /data" ]] || exit 64' \
    'exec s3_server 0.0.0.0:7070 inkpool-objects' >/usr/local/bin/versitygw && chmod +x /usr/local/bin/versitygw
ENTRYPOINT ["versitygw"]
