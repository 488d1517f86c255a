#!/usr/bin/env bash
# All that needs a GPU, unattended, into one report: tests/gpu/run.sh [--device cuda] [--python python3] [--report FILE]
#
# Needs torch, pytest, click and libcst. `--device cpu` tries the script itself where there is no GPU. Every part runs,
# whatever became of those before it; the report ends with what failed, and the exit status is the number of failures.
# Times are reported, and none is judged.
set -uo pipefail
cd "$(dirname "$0")/../.."
device=cuda python=python3 report=gpu-report.txt
while [ $# -gt 0 ]; do
    case $1 in
        --device | --python | --report) declare "${1#--}=$2" && shift 2 ;;
        *) echo "unknown option $1" >&2 && exit 2 ;;
    esac
done
export ENERGY_TEST_DEVICE=$device PYTHONPATH=$PWD PYTHONUNBUFFERED=1 OMP_NUM_THREADS=1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failed=()

part() { # NAME SECONDS COMMAND...
    local name=$1 limit=$2
    shift 2
    printf '\n## %s\n$ %s\n' "$name" "$*"
    timeout -k 10 "$limit" "$@" 2>&1 | tail -n 60
    [ "${PIPESTATUS[0]}" -eq 0 ] || failed+=("$name")
}

sample() { # a patched copy of the sample, in which the check is run as a user runs it
    cp -r energy_patch/demo/sample "$scratch/sample" && cd "$scratch/sample" &&
        "$python" -m energy_patch apply --strategy "$1" finetune_Energy.py && shift &&
        "$python" -m torch.distributed.run --standalone --nproc-per-node 2 -m energy_losses.check \
            energy.energy_model:EnergyModel --device "$device" --backend gloo "$@"
    local status=$?
    rm -rf "$scratch/sample"
    return $status
}
export -f sample
export scratch python device

small=() # on the CPU, the parts are to be tried and not to be measured
[ "$device" = cpu ] && small=(--state-dim 64 --sequence 20 --steps 1)
{
    part machine 60 "$python" -c "import torch; print('torch', torch.__version__, torch.version.cuda, torch.cuda.is_available() and torch.cuda.get_device_properties(0))"
    tests=tests/distributed
    part "what differs on a GPU, and the waits" 300 "$python" -m pytest -q -rs $tests/test_device.py $tests/test_waits.py
    [ "$device" = cpu ] ||
        part "losses and scoring" 600 "$python" -m pytest -q $tests/test_{global,hybrid,layer,queue,adaptive,every_loss,exchange,scoring,scoring_long_lists,scoring_rules}.py
    part "the check" 300 bash -c 'sample global "$@"' check "${small[@]}"
    for dtype in float32 bfloat16; do
        [ "$device" = cpu ] || part "cost of the loss, $dtype" 300 "$python" tests/benchmarks/loss_cost.py --device cuda --dtype $dtype
    done
    printf '\n## result\n%s\n' "${#failed[@]} failed: ${failed[*]:-}"
    exit "${#failed[@]}"
} | tee "$report"
