#!/usr/bin/env bash
# Builds the image `recsys-mtl:cpu` without a Docker engine and without a registry of images, and
# tries it the way Kubernetes would run it: as UID 1000, root file system read-only, no capability.
# Run it as root, with buildah, podman, an OCI runtime and debootstrap.
#
#   BASE=IMAGE     the base image; left out, Debian bookworm with python3.11 is made by debootstrap
#   WHEELS=FOLDER  where pip finds every package; left out, it asks its indexes. To fill it:
#                  pip download --no-deps --only-binary :all: --dest FOLDER -r docker/cpu.lock.txt
#   TAG=NAME       instead of recsys-mtl:cpu
#
# buildah and podman read their own settings: STORAGE_DRIVER, CONTAINERS_CONF, BUILDAH_ISOLATION.
set -euo pipefail
cd "$(dirname "$0")/.."

TAG=${TAG:-recsys-mtl:cpu}
MADE_BASE=localhost/bookworm-python3.11
# chroot needs neither user namespaces nor control groups of its own: it works inside a container.
export BUILDAH_ISOLATION=${BUILDAH_ISOLATION:-chroot}

main() {
    if [[ -z ${BASE:-} ]]; then
        make_base
        BASE=$MADE_BASE
    fi
    build_image
    step "the command answers"
    run_image recsys-mtl --help
    step "nothing can be written but /tmp and HOME, and there is nothing to build with"
    run_image bash -euc "$CONTENTS"
    step "1,000 rows are trained by two workers"
    run_image bash -euc "$TRAINING"
    step "Ray starts and is probed as by KubeRay"
    try_ray
    step "done: $TAG"
}

step() {
    printf '\n== %s\n' "$*"
}

make_base() {
    if buildah inspect --type image "$MADE_BASE" > /dev/null 2>&1; then
        return
    fi
    step "a base image: Debian bookworm with python3.11"
    local container root
    container=$(buildah from scratch)
    root=$(buildah mount "$container")
    debootstrap --variant=minbase --include=ca-certificates,python3.11 bookworm "$root"
    rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
    buildah umount "$container"
    buildah commit --rm "$container" "$MADE_BASE"
}

build_image() {
    step "$TAG on $BASE"
    # The format docker keeps the health check, which the format oci has no field for.
    local options=(
        --file docker/Dockerfile --target cpu --tag "$TAG" --format docker --layers
        --build-arg BASE="$BASE"
        --build-arg REVISION="$(git rev-parse HEAD 2> /dev/null || echo unknown)"
    )
    if [[ -n ${WHEELS:-} ]]; then
        options+=(--build-context wheels="$(realpath "$WHEELS")" --build-arg PIP_NO_INDEX=1)
    fi
    buildah bud "${options[@]}" .
    podman image inspect --format '{{.Size}} bytes in {{len .RootFS.Layers}} layers' "$TAG"
}

# What a pod with the strictest security context gets, and no network beyond loopback.
CONTAINED=(
    --read-only --read-only-tmpfs=false --tmpfs /tmp --tmpfs /home/recsys
    --cap-drop all --security-opt no-new-privileges --network none --shm-size 1g
)

run_image() {
    timeout 900 podman run --rm --no-healthcheck "${CONTAINED[@]}" \
        --volume "$PWD/pipelines/runs:/etc/recsys-mtl:ro" "$TAG" "$@"
}

# shellcheck disable=SC2016  # the container's shell expands it
CONTENTS='
id
test "$(id -u)" = 1000
grep -E "^(CapEff|NoNewPrivs|Seccomp):" /proc/self/status
for folder in / /opt/venv/bin /var/tmp; do
    if touch "$folder/written" 2> /dev/null; then echo "$folder can be written"; exit 1; fi
done
touch /tmp/written "$HOME/written"
for tool in pip cc gcc ld make pytest; do
    if command -v "$tool"; then echo "$tool is in the image"; exit 1; fi
done
'

TRAINING='
cd /tmp
python -m pipelines.synthetic_clicks --out clicks --rows 1000 --seed 1
recsys-mtl train /etc/recsys-mtl/demo.yaml \
    --set data.train=clicks/train --set data.eval=clicks/eval --set run.storage_path=/tmp/runs \
    --set training.global_batch_size=128 --set training.warm_up_steps=2 \
    --set cluster.num_workers=2
python -c "import json; assert json.load(open(\"runs/demo/result.json\"))[\"rows\"] == 1000"
'

# The command and the probes are those that KubeRay writes into a head pod.
START_HEAD='ulimit -n 65536; ray start --head --block --dashboard-host=0.0.0.0 \
    --dashboard-agent-listen-port=52365 --metrics-export-port=8080 --num-cpus=0'
PROBE='wget --tries 1 -T 2 -q -O- http://localhost:52365/api/local_raylet_healthz | grep success \
    && wget --tries 1 -T 2 -q -O- http://localhost:8265/api/gcs_healthz | grep success'

try_ray() {
    local head
    # Where no systemd runs, podman complains of the health check's timer; it is run by hand below.
    head=$(podman run --detach "${CONTAINED[@]}" --entrypoint '["/bin/bash", "-c", "--"]' "$TAG" \
        "$START_HEAD")
    # shellcheck disable=SC2064  # the name is known now, and gone when the trap runs
    trap "podman rm --force --time 0 $head > /dev/null" EXIT
    local attempt
    for attempt in {1..60}; do
        if podman exec "$head" /bin/bash -c "$PROBE"; then
            break
        fi
        if [[ $attempt == 60 ]]; then
            podman logs "$head"
            return 1
        fi
        sleep 2
    done
    podman healthcheck run "$head"
    echo "healthy"
    # The other way round: a head whose cluster state is gone must not count as healthy.
    podman exec "$head" pkill -STOP -x gcs_server
    if podman healthcheck run "$head"; then
        echo "still healthy with gcs_server stopped"
        return 1
    fi
    echo "unhealthy with gcs_server stopped, as it should be"
}

main
