# Ray on the nodes of this job, and one command in it. Sent again as it is, the command goes on where it stopped.
set -euo pipefail

# The head is the first node, where this script runs. Other users share the network: who has no token is refused.
mapfile -t hosts < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
address=$(srun --nodes=1 --ntasks=1 --nodelist="${hosts[0]}" hostname -I | awk '{print $1}')
export RAY_ADDRESS="$address:$((20000 + SLURM_JOB_ID % 20000))"
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')

# start NODES HOSTS WORDS...: Ray on some of the nodes, until the job ends.
start() {
  local nodes=$1 names=$2
  shift 2
  srun --nodes="$nodes" --ntasks="$nodes" --nodelist="$names" --overlap \
    ray start "$@" --num-cpus="$CPUS" --num-gpus="$GPUS" --disable-usage-stats --block &
  rays=("$!" "${rays[@]}")
}

# The last that was started ends first: a node leaves at once while the head still answers.
stop() {
  for ray in "${rays[@]}"; do
    kill "$ray" 2> /dev/null || true
    wait "$ray" || true
  done
}
rays=()
trap stop EXIT
start 1 "${hosts[0]}" --head --node-ip-address="$address" --port="${RAY_ADDRESS##*:}" --include-dashboard=false \
  --temp-dir="/tmp/ray-$SLURM_JOB_ID"

# The others join once the head answers; pools grow as they come.
for ((tries = 0; ; tries++)); do
  ray status > /dev/null 2>&1 && break
  if ((tries == 60)) || ! kill -0 "${rays[0]}" 2> /dev/null; then
    echo "the head did not answer at $RAY_ADDRESS: look at the output of ray start above" >&2
    exit 75
  fi
  sleep 2
done
if ((${#hosts[@]} > 1)); then
  others=$(
    IFS=,
    echo "${hosts[*]:1}"
  )
  start $((${#hosts[@]} - 1)) "$others" --address="$RAY_ADDRESS"
fi

# Slurm warns before it ends the job: the run then keeps what is finished and exits with 75, and the job is sent again.
"${WORDS[@]}" &
driver=$!
trap 'kill -TERM "$driver"' TERM
while kill -0 "$driver" 2> /dev/null; do
  wait "$driver" || true # the signal ends this waiting, not the run
done
code=0
wait "$driver" || code=$?
if ((code == 75)); then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
