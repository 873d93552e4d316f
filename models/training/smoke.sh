#!/usr/bin/env bash
# Pages, training, export and evaluation at the smallest size; PYTHON names an interpreter with requirements.txt installed.
set -euo pipefail
cd "$(dirname "$0")"
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset NOISYOFFICE
"$python" pages.py sheet "$work/sheet.png" --count 2 --side 128
"$python" train.py "$work/run" --settings smoke.toml
"$python" export.py "$work/run/checkpoint.pt" "$work/smoke.onnx"
(cd "$work" && sha256sum --check --quiet smoke.onnx.sha256)
"$python" evaluate.py "$work/smoke.onnx" --settings smoke.toml
"$python" -m pytest -q -p no:cacheprovider tests
