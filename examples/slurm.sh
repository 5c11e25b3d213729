#!/usr/bin/env bash
# A study in one SLURM job that survives its time limit and preemption: sbatch examples/slurm.sh
#SBATCH --job-name=hpo
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
#SBATCH --open-mode=append
#
# Two minutes before the limit SLURM sends USR1, and TERM where it preempts: hpo keeps what is finished and exits with
# 130, and the job is queued again. STUDY, OUT and HPO_OPTIONS choose what runs; --wait waits for a job that still ends.
# For many jobs side by side use `hpo run STUDY --executor slurm` instead.
set -u
read -ra options <<<"${HPO_OPTIONS:-}"
hpo run "${STUDY:-quickstart}" --out "${OUT:-runs}" --wait ${options[@]+"${options[@]}"} &
child=$!
signalled=0
trap 'signalled=1; kill -USR1 "$child"' USR1 TERM
while :; do  # a signal ends `wait`, not hpo
  wait "$child"
  code=$?
  [ "$signalled" = 1 ] || break
  signalled=0
done
if [ "$code" = 130 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
