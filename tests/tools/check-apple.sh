#!/usr/bin/env bash
# Type-checks the native command, with its Metal code, for Apple silicon. Needs no Mac: nothing is linked.
set -euo pipefail
cd "$(dirname "$0")/../.."
tests/tools/setup.sh apple
triple=aarch64-apple-darwin
# A place of its own: the rustc may be another than that of the native build.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}/apple"
args=(check --locked -p pagelm-cli --target $triple)
if [ -d "$(rustc --print sysroot)/lib/rustlib/$triple/lib" ]; then
  cargo "${args[@]}"
else
  RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 /usr/bin/cargo "${args[@]}" -Z build-std=std,panic_abort
fi
