#!/bin/bash
# sbatch slurm.sh: an array of four tasks, each with its shard.
#SBATCH --job-name=teardown
#SBATCH --array=0-3
#SBATCH --mem=512M
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=teardown-%a.log
# A journal needs a disk of its machine. A task that is requeued has to come back to its journal.
#SBATCH --nodelist=node01
set -euo pipefail

DATA="${DATA:-/var/tmp/teardown}"
mkdir -p "$DATA"
exec bandwidth-async end --from=ids.txt --yes --shard=auto/4 --journal="$DATA/shard-{shard}.journal" \
    --continue --rate=25 --output=/dev/null
