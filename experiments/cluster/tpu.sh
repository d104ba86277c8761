#!/bin/bash
# All hosts of a Cloud TPU slice, by gcloud from your own machine.
#
#   experiments/cluster/tpu.sh NAME ZONE experiments/mnist.cfg \
#     --batch_size=1024 --workdir=/shared/mnist
#
# NAME is a slice that is there: gcloud compute tpus tpu-vm create NAME --zone=ZONE
# --accelerator-type=v5litepod-16 --version=v2-alpha-tpuv5-lite. The work directory must be
# one that all hosts see, such as a Filestore mount. The slice has to be there at first;
# while it is being restarted or recreated after a preemption this asks again every minute,
# and the run goes on from its checkpoint. Each host has a clone of this repository in
# ~/infogan_jax.
set -uo pipefail

usage="usage: tpu.sh NAME ZONE FLAGFILE [--flag=value..]"
name=${1:?$usage} zone=${2:?$usage}
shift 2
on_all() {
  gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all --command="$1"
}

gcloud compute tpus tpu-vm describe "$name" --zone="$zone" --format="value(state)" ||
  exit 3 # gcloud has said why: no such slice, no login, no gcloud

printf -v arguments '%q ' "$@"
while true; do
  on_all "cd infogan_jax && ./run.sh $arguments --coordinator_address=auto"
  code=$?
  # 2: a mistake in the flags, which no further try mends
  if [ "$code" = 0 ] || [ "$code" = 2 ]; then exit "$code"; fi
  echo "the run ended early ($code); asking the slice again in ${WAIT:-60} s" >&2
  sleep "${WAIT:-60}"
done
