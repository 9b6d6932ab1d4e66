#!/usr/bin/env bash
# The steps of action.yml: prepare, fetch, check, verdict. Inputs arrive as RG_* in the environment and are only ever
# whole arguments. $RG_DIR/state holds what the steps tell each other:
#   command, out, cache   paths, one a file
#   code                  what the last command exited with; not there: it never ended
#   log                   what it printed
set -euo pipefail

FILES=(report.json report.md report.html report.sarif report.xml statement.json summary.md annotations.txt)

main() {
  case ${1-} in
    prepare | fetch | check | verdict) "$1" ;;
    *) echo "usage: steps.sh prepare | fetch | check | verdict" >&2; exit 2 ;;
  esac
}

prepare() {
  RG_DIR=$(mktemp -d "$RUNNER_TEMP/resurgence-gate.XXXXXXXX")
  output dir "$RG_DIR"
  mkdir "$RG_DIR/state"
  absolute "${RG_OUT:-$RG_DIR/report}" >"$RG_DIR/state/out"
  absolute "${RG_CACHE:-$RG_DIR/cache}" >"$RG_DIR/state/cache"
  discard_earlier
  [[ -n $RG_MODEL ]] || wrong "the input model is empty"
  [[ -n $RG_POLICY ]] || wrong "the input policy is empty"
  [[ $RG_FAIL_ON_INCONCLUSIVE == true || $RG_FAIL_ON_INCONCLUSIVE == false ]] ||
    wrong "the input fail-on-inconclusive is neither true nor false"
  [[ $RG_ALLOW_PICKLE == true || $RG_ALLOW_PICKLE == false ]] ||
    wrong "the input allow-pickle is neither true nor false"
  if ! type -P -- "$RG_COMMAND" >"$RG_DIR/state/command"; then
    logged install || stop "$?"
    echo "$RG_DIR/venv/bin/resurgence-gate" >"$RG_DIR/state/command"
  fi
  "$(recall command)" --version
}

install() {
  python3 -m venv "$RG_DIR/venv"
  "$RG_DIR/venv/bin/python" -m pip install --quiet --disable-pip-version-check "$GITHUB_ACTION_PATH"
}

fetch() {
  caches
  gate fetch --max-download="$RG_MAX_DOWNLOAD" || stop "$?"
}

check() {
  caches
  unset HF_TOKEN
  local code=0
  gate check --device="$RG_DEVICE" --dtype="$RG_DTYPE" || code=$?
  echo "$code" >"$RG_DIR/state/code"
  exit "$(exit_of "$code")"
}

# `resurgence-gate $1` on the model, with no credential and no handle on the job that it does not need.
gate() {
  local out model=()
  out=$(recall out)
  [[ -z ${RG_BASE-} ]] || model+=(--base="$RG_BASE")
  [[ -z ${RG_VARIANT-} ]] || model+=(--variant="$RG_VARIANT")
  [[ $RG_ALLOW_PICKLE == false ]] || model+=(--allow-pickle)
  [[ -n ${HF_TOKEN-} ]] || unset HF_TOKEN
  logged env -u GITHUB_TOKEN -u ACTIONS_ID_TOKEN_REQUEST_TOKEN -u ACTIONS_ID_TOKEN_REQUEST_URL \
    -u ACTIONS_RUNTIME_TOKEN -u GITHUB_ENV -u GITHUB_PATH -u GITHUB_OUTPUT -u GITHUB_STATE -u GITHUB_STEP_SUMMARY \
    "$(recall command)" "$@" ${model[@]+"${model[@]}"} --policy="$RG_POLICY" --out="$out" \
    --report=html="$out/report.html" --report=sarif="$out/report.sarif" --report=junit="$out/report.xml" \
    --report=github="$out/summary.md" --report=annotations="$out/annotations.txt" \
    -- "$RG_MODEL${RG_REVISION:+@$RG_REVISION}"
}

verdict() {
  local out='' code='' verdict=ERROR
  if [[ -n ${RG_DIR-} ]]; then
    out=$(recall out || true)
    code=$(recall code || true)
  fi
  [[ $code =~ ^[0-9]+$ ]] || code=1 # it was stopped, or never began
  case $code in
    0) verdict=PASS ;;
    10) verdict=FAIL ;;
    11) verdict=INCONCLUSIVE ;;
    12) verdict=REFUSED ;;
  esac
  if [[ $code == 0 || $code == 10 || $code == 11 ]] && ! says "$out" "$verdict"; then
    echo "exit code $code, and no report that says $verdict: there is no verdict" >&2
    code=1 verdict=ERROR
  fi
  output verdict "$verdict"
  output exit-code "$code"
  output out "$out"
  if [[ $verdict == PASS || $verdict == FAIL || $verdict == INCONCLUSIVE ]]; then
    logged "$(recall command)" attest "$out" --out="$out/statement.json" || rm -f -- "$out/statement.json"
  fi
  output report-json "$(file "$out" report.json)"
  output report-html "$(file "$out" report.html)"
  output sarif "$(file "$out" report.sarif)"
  output junit "$(file "$out" report.xml)"
  output predicate "$(file "$out" statement.json)"
  summarize "$out" "$code" >>"${GITHUB_STEP_SUMMARY:-/dev/null}" || true
  annotate "$out" "$code" || true
  exit "$(exit_of "$code")"
}

# Whether the report of this run, whole, has this verdict: the first annotation is about nothing else.
says() {
  [[ -f $1/report.json && -f $1/annotations.txt ]] || return 1
  local first
  IFS= read -r first <"$1/annotations.txt" || return 1
  [[ $first =~ ^::(notice|warning|error)\ title=resurgence-gate%3A\ ${2}:: ]]
}

# The summary of the report or, where there is none, the end of what was printed, as code.
summarize() {
  if [[ -s $1/summary.md ]]; then
    cat -- "$1/summary.md"
    return
  fi
  printf '# No verdict (exit code %s)\n\nThe gate ended without a report. The end of what it printed:\n\n' "$2"
  tail -c 8000 -- "${RG_DIR-}/state/log" 2>/dev/null | LC_ALL=C tr -cd '\11\12\40-\176' | tail -n 40 | sed 's/^/    /' || true
  echo
}

annotate() {
  if [[ -s $1/annotations.txt ]]; then
    cat -- "$1/annotations.txt"
  else
    echo "::error title=resurgence-gate%3A no verdict::The gate ended without a report (exit code $2)."
  fi
}

# What the step exits with: only INCONCLUSIVE may be let through, and only if that was asked for.
exit_of() {
  if [[ $1 == 11 && $RG_FAIL_ON_INCONCLUSIVE == false ]]; then echo 0; else echo "$1"; fi
}

# A command whose output is shown and kept, and in which the runner obeys no workflow command.
logged() {
  local token code=0
  token=$(random)
  echo "::stop-commands::$token"
  "$@" 2>&1 | tee -a "$RG_DIR/state/log" || code=${PIPESTATUS[0]}
  printf '\n::%s::\n' "$token"
  return "$code"
}

wrong() {
  echo "error: $1" | tee -a "$RG_DIR/state/log" >&2
  stop 2
}

stop() {
  echo "$1" >"$RG_DIR/state/code"
  exit "$1"
}

# Models and results below the cache folder, and nothing of the account that runs this: not its token either.
caches() {
  local cache
  cache=$(recall cache)
  mkdir -p -- "$cache" "$RG_DIR/tmp"
  unset HF_HUB_CACHE HUGGINGFACE_HUB_CACHE HF_DATASETS_CACHE HF_TOKEN_PATH HUGGING_FACE_HUB_TOKEN
  export HF_HOME="$cache/huggingface" RESURGENCE_GATE_STORE="$cache/store" TMPDIR="$RG_DIR/tmp"
  export HF_HUB_DISABLE_TELEMETRY=1
}

discard_earlier() {
  local name out
  out=$(recall out)
  for name in "${FILES[@]}"; do rm -f -- "$out/$name"; done
}

recall() { cat -- "$RG_DIR/state/$1" 2>/dev/null; }

absolute() { if [[ $1 == /* ]]; then printf '%s' "$1"; else printf '%s' "$PWD/$1"; fi; }

file() { if [[ -s $1/$2 ]]; then printf '%s' "$1/$2"; fi; }

random() { od -An -N16 -tx1 /dev/urandom | tr -d ' \n'; }

# An output of the step; its delimiter cannot be guessed, so that no value can add another output.
output() {
  local end
  end=end-$(random)
  printf '%s<<%s\n%s\n%s\n' "$1" "$end" "$2" "$end" >>"$GITHUB_OUTPUT"
}

main "$@"
