#!/bin/bash
# One process per GPU on two nodes of eight, under SLURM.
#
#   sbatch experiments/cluster/slurm.sh experiments/mnist.cfg --batch_size=1024
#
# The first argument is the flagfile, all others are flags. The work directory must be one
# that all nodes see. A preempted job, or one whose time is up, is told by SIGTERM, saves,
# and is queued again; the same command goes on from its checkpoint.
#SBATCH --job-name=infogan_jax
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -uo pipefail

flagfile=${1:?usage: sbatch slurm.sh FLAGFILE [--flag=value..]}
shift
name=$(basename "$flagfile" .cfg)
srun --kill-on-bad-exit=0 "${PYTHON:-.venv/bin/python}" -m infogan_jax.main \
  --coordinator_address=auto --flagfile="$flagfile" --workdir="${RUNS:-runs}/$name" "$@"
code=$?
# 128 + SIGTERM: all is saved, and there is more to do
if [ "$code" = 143 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
