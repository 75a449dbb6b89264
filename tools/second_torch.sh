#!/usr/bin/env bash
# Decodes the reference streams with another torch of the supported range, in an environment made for it and
# thrown away again. Needs Python 3.11 or 3.12, a package registry and about 6 GB of disk.
#
#   tools/second_torch.sh [TORCH [TORCHVISION [OUT.csv]]]      default: 2.11.* 0.26.* data/results/determinism.csv
#   KEEP=1 keeps the environment in build/second_torch; PYTHON=... picks the interpreter.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
torch=${1:-2.11.*} torchvision=${2:-0.26.*} out=${3:-data/results/determinism.csv}
python=${PYTHON:-python3.11}
folder=build/second_torch

cleanup() { if [ -z "${KEEP:-}" ]; then rm -rf "$folder"; fi; }
trap cleanup EXIT

mkdir -p build
"$python" -m venv --clear "$folder"
"$folder/bin/python" -m pip install --quiet --progress-bar off --no-cache-dir \
  "torch==$torch" "torchvision==$torchvision" -e .
"$folder/bin/python" -c 'import torch, torchvision, compressai; print("torch", torch.__version__)'
check() { OMP_NUM_THREADS=$1 "$folder/bin/python" tools/check_streams.py --environment second_torch --out "$out" \
  --threads "$1" --dtype "$2" "${@:3}"; }
for threads in 1 2; do
  for dtype in float32 bfloat16; do
    check "$threads" "$dtype"
    check "$threads" "$dtype" --no-onednn
  done
done
