#!/usr/bin/env bash
# Builds web/bindings into web/pkg, shrinks it, and prints its size.
#   tests/tools/build-web.sh [cargo option...]     for example: --features something
# WASM_PROFILE=dev builds faster and keeps names; WASM_OPT=0 leaves wasm-opt out.
set -euo pipefail
cd "$(dirname "$0")/../.."
lines=$(tests/tools/setup.sh env)
eval "$lines"

# Beside the native build, not in it: it may be another rustc, and each would throw away the other's work.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}/wasm"
profile=${WASM_PROFILE:-wasm}
# Built beside the old package and moved over it, so that a failed build leaves that usable.
out=web/pkg.new
rm -rf $out
wasm-pack --log-level error build web/bindings --target web --mode no-install --no-pack --no-gitignore --no-opt \
  --out-dir ../pkg.new --out-name pagelm --profile "$profile" -- --locked "$@"
wasm=$out/pagelm_bg.wasm
if [ "$profile" != dev ] && [ "${WASM_OPT:-1}" = 1 ]; then
  # The features are those that rustc was told to use and those it uses anyway; wasm-opt must not take one away.
  node web/node_modules/binaryen/bin/wasm-opt -O3 --enable-simd --enable-bulk-memory --enable-nontrapping-float-to-int \
    --enable-sign-ext --enable-mutable-globals --enable-reference-types --enable-multivalue "$wasm" -o "$wasm.opt"
  mv "$wasm.opt" "$wasm"
fi
rm -rf web/pkg
mv $out web/pkg
echo "web/pkg/pagelm_bg.wasm: $(wc -c <web/pkg/pagelm_bg.wasm) bytes, $(gzip -9c web/pkg/pagelm_bg.wasm | wc -c) gzipped"
