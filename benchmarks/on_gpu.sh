#!/usr/bin/env bash
# Measures the cuda backend on a Linux machine with one NVIDIA GPU, in about nine minutes with the installation:
#
#     bash benchmarks/on_gpu.sh [FOLDER] [OPTION...]      # options of `python -m benchmarks.on_gpu`, such as --model
#
# FOLDER (default: reports/gpu) receives on_gpu.json, on_gpu.md and a log of every stage.
# Environment: PYTHON   the interpreter; default python3
#              WHEELS   a folder of wheels that are installed beside what PYTHON has already, without the network;
#                       "none" installs nothing; default: everything comes from the package index, into FOLDER/venv
#              BUDGET   seconds in all, the installation included; default 540
set -eu
started=$(date +%s)
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
folder=reports/gpu
case ${1:-} in "" | -*) ;; *) folder=$1; shift ;; esac
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
path=$PWD

case ${WHEELS:-index} in
  none) ;;
  index)
    "$python" -m venv "$folder/venv"
    python=$folder/venv/bin/python
    timeout 300 "$python" -m pip install --quiet --disable-pip-version-check ".[cuda,speed]"
    ;;
  *)  # --target: an environment that must not change keeps its torch, and what is carried goes before what is there
    timeout 120 "$python" -m pip install --quiet --disable-pip-version-check --no-index --no-deps --no-compile \
      --upgrade --target "$folder/site" "$WHEELS"/*.whl
    path=$path:$folder/site
    ;;
esac

left=$((${BUDGET:-540} - $(date +%s) + started))
PYTHONPATH=$path${PYTHONPATH:+:$PYTHONPATH} exec "$python" -m benchmarks.on_gpu "$folder" --budget "$left" "$@"
