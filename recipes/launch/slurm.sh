#!/bin/bash
# A run whose trainings take several machines of a Slurm cluster: `sbatch recipes/launch/slurm.sh`.
# Submitted again, it goes on where it ended (a time limit, a lost machine).
#
# Change: --nodes and --gpus-per-node; --time and --partition as your cluster has them; how your cluster
# gives you the environment (module load, a container, or a virtual environment as below); RECIPE and OUT.
# OUT must be on a disk that all machines see.
#SBATCH --job-name=selfimprove
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --output=selfimprove-%j.log
#SBATCH --requeue
set -euo pipefail

RECIPE=${RECIPE:-pit-paper}
OUT=${OUT:-$HOME/runs/$RECIPE}
GPUS=${GPUS:-8}                                    # as in --gpus-per-node
source "${VENV:-$HOME/selfimprove/.venv}/bin/activate"

# Every machine is given the address of the first one, which runs the recipe; the others train with it.
FIRST=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
PORT=$((29500 + SLURM_JOB_ID % 1000 * 2))          # this port and the one after it; two jobs may share a machine
export FIRST PORT RECIPE OUT GPUS

srun --kill-on-bad-exit=1 bash -c '
  exec torchrun --nnodes "$SLURM_NNODES" --nproc_per_node "$GPUS" --node_rank "$SLURM_NODEID" \
    --master_addr "$FIRST" --master_port "$PORT" \
    -m selfimprove run "$RECIPE" --out "$OUT"
'
